"""The files that state the same fact about the package agree with one another."""

from __future__ import annotations

import configparser
import re
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import repo_notify
from repo_notify.testing.embedded import why_not_installed

ROOT = Path(__file__).parents[2]
FLOOR = re.compile(r"(?P<name>[a-z0-9-]+)(?:\[[a-z,]+\])?>=(?P<version>[^\s;]+)")
# What users install; `test`, `benchmarks` and `dev` have floors that nobody but us meets.
EXTRAS = ("sessions", "server", "redis", "rabbitmq", "demo")
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)$", re.MULTILINE)


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def extras() -> dict[str, str]:
    """Extra -> its requirements, as setup.cfg has them."""
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(read("setup.cfg"))
    return dict(config["options.extras_require"])


def declared_floors() -> dict[str, str]:
    """Name -> lowest version that setup.cfg lets a user install; what only tests need is not among them."""
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(read("setup.cfg"))
    lists = [config["options"]["install_requires"]]
    lists += [config["options.extras_require"][extra] for extra in EXTRAS]
    return {match["name"]: match["version"] for text in lists for match in FLOOR.finditer(text)}


def numbers(version: str) -> tuple[int, ...]:
    release = [int(part) for part in re.findall(r"\d+", version)]
    while release and release[-1] == 0:
        release.pop()
    return tuple(release)


def test_the_min_environment_installs_the_declared_floors() -> None:
    pins = {match["name"]: numbers(match["version"]) for match in PIN.finditer(read("requirements/min.txt"))}
    assert pins == {name: numbers(version) for name, version in declared_floors().items()}


def test_what_the_redis_transport_imports_is_declared() -> None:
    declared, asked = set(), [Requirement(line) for line in extras()["redis"].split()]
    while asked:
        one = asked.pop()
        if (key := (one.name.lower(), frozenset(one.extras))) in declared:
            continue
        declared.add(key)
        for line in requires(one.name) or ():
            found = Requirement(line)
            if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                asked.append(found)
    assert {"packaging", "redis"} <= {name for name, _ in declared}


def test_where_the_embedded_database_cannot_be_installed_the_demo_says_so() -> None:
    marker = Requirement(extras()["demo"].splitlines()[-1]).marker
    assert marker is not None
    for minor in range(10, 16):
        installed = marker.evaluate({"python_version": f"3.{minor}"})
        assert ("pip install 'repo_notify[demo]'" in why_not_installed((3, minor))) == installed
        assert (f"cannot be installed on Python 3.{minor}: " in why_not_installed((3, minor))) != installed
        assert "REPO_NOTIFY_MONGO_URI" in why_not_installed((3, minor))


@pytest.mark.parametrize("extra", ["", "sessions", "server", "redis", "rabbitmq"])
def test_the_embedded_database_and_its_licence_come_with_extras_for_trying_and_testing_alone(extra: str) -> None:
    lines = extras()[extra] if extra else read("setup.cfg").split("install_requires")[1].split("[options")[0]
    assert "secantus" not in lines
    assert "%(demo)s" not in lines


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\d\S*)", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == repo_notify.__version__


@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_every_supported_python_is_claimed_and_tested(minor: int) -> None:
    assert f"Programming Language :: Python :: 3.{minor}\n" in read("setup.cfg")
    tox = read("tox.ini")
    env_list, suite = re.search(r"py\{([^}]*)\}", tox), re.search(r"\[testenv:suite\]\nbase_python = py(\d+)", tox)
    assert env_list is not None
    assert suite is not None
    assert f"3{minor}" in [*env_list[1].split(", "), suite[1]]


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    command = re.search(r"^python3 -m venv .*tox.*$", read(".ci/run"), re.MULTILINE)
    assert command is not None
    assert command[0] in read("README.md")
