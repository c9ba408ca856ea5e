"""Every extra of the wheel, installed into an empty virtual environment, and what its users do first.

Run by `tox -e extras` alone, as `pytest tests/packaging/extras.py`: it needs a package index, and uv.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import USERS
from tests.support import brokers
from tests.support.chat import ChatClient
from tests.support.command import environment
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app, running
from tests.support.service import API_KEY, HOST_KEY, ROOT
from tests.support.until import until

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
EVENT = {"type": "TicketUpdated", **ROOM, "kind": "container", "data": {"n": 1}}
# A first start compiles everything that was installed.
INSTALL_SECONDS, START_SECONDS = 120, 60
# Extra -> what runs where it is installed; `test` and `benchmarks` are `demo` with libraries.
COMMANDS = {
    "docs": "python -m sphinx --version",
    "sessions": "python -c 'import flask_session'",
    "benchmarks": "python -c 'import flask_session, kombu, redis, requests, secantus'",
    "testing": "python -m pytest -p repo_notify.testing.plugin --fixtures",
    "test": "python -m pytest --version",
    "dev": "python -m mypy --version",
}


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def extras() -> set[str]:
    config = configparser.ConfigParser(interpolation=None)
    config.read_string((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    return set(config["options.extras_require"])


def run(*command: str, cwd: Path, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean(**environ),
        input=text,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )


def clean(**environ: str) -> dict[str, str]:
    """The environment of a shell that knows nothing of this source tree."""
    found = environment(**environ)
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "REPO_NOTIFY_ENV"):
        found.pop(name, None)
    return found


class Installed:
    """A virtual environment with what was installed; its folder is empty but for that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        self._uv("venv", "--quiet", "--python", sys.executable, str(folder / "venv"))

    def install(self, requirement: str) -> Installed:
        self._uv("pip", "install", "--quiet", "--python", str(self.bin / "python"), requirement)
        return self

    def run(self, command: str, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        program, *words = shlex.split(command)
        return run(str(self.bin / program), *words, cwd=self.folder, text=text, **environ)

    def packages(self) -> set[str]:
        listed = run("uv", "pip", "list", "--format=json", "--python", str(self.bin / "python"), cwd=self.folder)
        return {package["name"].lower() for package in json.loads(listed.stdout)}

    def _uv(self, *words: str) -> None:
        done = run("uv", *words, cwd=self.folder)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = run("uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT), cwd=folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Callable[[str], Installed]:
    """Install the wheel with these extras, separated by commas, into an empty virtual environment."""

    def install(extras: str) -> Installed:
        return Installed(tmp_path).install(f"repo_notify{f'[{extras}]' if extras else ''} @ {wheel.as_uri()}")

    return install


@pytest.fixture
def rest(sample: str) -> Iterator[Served]:
    """The REST API, whose sessions the service reads."""
    with host_app({"REPO_NOTIFY_MONGO_URI": sample, "SESSION_COOKIE_NAME": "connect.sid"}) as found:
        yield found


def deploy_commands() -> tuple[str, str]:
    """What README's section Deploy installs, and what it starts, with its placeholders left as they are."""
    block = re.search(r"^## Deploy$.*?```sh\n(.*?)```", readme(), re.MULTILINE | re.DOTALL)
    assert block is not None
    install, start = block[1].replace("\\\n", " ").strip().splitlines()
    return install, start


def test_the_lines_of_the_readme_start_a_service_that_is_ready_and_delivers(
    installed: Callable[[str], Installed], sample: str, rest: Served, chat: Callable[..., ChatClient]
) -> None:
    install, start = deploy_commands()
    wanted = re.fullmatch(r"pip install 'repo_notify\[(.*)\]'", install)
    assert wanted is not None
    here = installed(wanted[1])
    assert not {"kombu", "redis", "amqp", "secantusdb"} & here.packages()
    words = shlex.split(start)
    names = [word.partition("=")[0] for word in words if re.match(r"[A-Z_]+=", word)]
    assert names == ["SECRET_KEY", "REPO_NOTIFY_MONGO_URI", "REPO_NOTIFY_API_KEY"]
    port = free_port()
    command = [word.replace("127.0.0.1:3000", f"127.0.0.1:{port}") for word in words[len(names) :]]
    values = (HOST_KEY, sample, API_KEY)
    environ = clean(**dict(zip(names, values, strict=True)), REPO_NOTIFY_USERS_COLLECTION=USERS)
    with running(["env", "-C", str(here.folder), str(here.bin / command[0]), *command[1:]], environ) as process:
        url = f"http://127.0.0.1:{port}"
        until(lambda: status(f"{url}/notify/readyz") == 200 or process.poll() is not None, seconds=START_SECONDS)
        assert process.poll() is None, "gunicorn has ended"
        client = chat(url, cookie=User(rest).log_in("carol").cookie)
        client.join(ROOM)
        done = here.run(f"repo-notify publish --url {url} --key {API_KEY}", json.dumps(EVENT))
        assert (done.returncode, done.stdout) == (0, "published 1 event\n"), done.stderr
        assert client.hear_event("containerUpdateTicket") == {**ROOM, "data": {"n": 1}}


def status(url: str) -> int:
    try:
        return requests.get(url, timeout=SECONDS).status_code
    except requests.ConnectionError:
        return 0


IMPORTING = """
import sys
from gevent import monkey; monkey.patch_all()
from flask import Flask
from repo_notify import RepoNotify
RepoNotify(Flask("host"))
print(sorted({"amqp", "flask_session", "kombu", "redis", "secantus"} & set(sys.modules)))
"""


def test_without_extras_an_app_is_mounted_and_what_is_missing_is_named(
    installed: Callable[[str], Installed], tmp_path: Path
) -> None:
    here = installed("")
    done = here.run(f"python -W error -c {shlex.quote(IMPORTING)}")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    cases: list[tuple[str, dict[str, str], str]] = [
        ("publish --queue redis://127.0.0.1", {}, "pip install 'repo_notify[redis]'"),
        ("publish --queue amqp://127.0.0.1", {}, "pip install 'repo_notify[rabbitmq]'"),
        ("serve", {"REPO_NOTIFY_MESSAGE_QUEUE": "rediss://u:hunter2@h/0"}, "pip install 'repo_notify[redis]'"),
        ("serve", {"SESSION_TYPE": "mongodb"}, "repo_notify[sessions]"),
        ("demo", {}, "pip install 'repo_notify[demo]'"),
    ]
    for command, environ, cure in cases:
        done = here.run(f"repo-notify {command}", json.dumps(EVENT), SECRET_KEY="x", **environ)
        assert done.returncode == 1, command
        assert cure in done.stderr
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stderr


@pytest.mark.parametrize("extra", sorted(brokers.BROKERS))
def test_a_queues_extra_publishes_through_it(
    installed: Callable[[str], Installed], extra: str, sample: str, tmp_path: Path, chat: Callable[..., ChatClient]
) -> None:
    here = installed(extra)
    folder = tmp_path / "broker"
    folder.mkdir()
    with brokers.BROKERS[extra](folder) as queue:
        config: dict[str, Any] = {"REPO_NOTIFY_MONGO_URI": sample, "REPO_NOTIFY_USERS_COLLECTION": USERS}
        with host_app({**config, "REPO_NOTIFY_MESSAGE_QUEUE": queue}) as host:
            until(lambda: status(f"{host.url}/notify/readyz") == 200)
            client = chat(host.url, cookie=User(host).log_in("carol").cookie)
            client.join(ROOM)
            done = here.run(f"repo-notify publish --queue {queue}", json.dumps(EVENT))
            assert done.returncode == 0, done.stderr
            assert client.hear_event("containerUpdateTicket") == {**ROOM, "data": {"n": 1}}


def test_the_demos_extra_runs_it(installed: Callable[[str], Installed]) -> None:
    here, port = installed("demo"), free_port()
    command = ["env", "-C", str(here.folder), str(here.bin / "repo-notify"), "demo", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, clean()) as process:
        until(lambda: status(f"{url}/notify/readyz") == 200 or process.poll() is not None, seconds=START_SECONDS)
        assert requests.get(f"{url}/", timeout=SECONDS).status_code == 200


@pytest.mark.parametrize("extra", COMMANDS)
def test_what_an_extra_brings_is_there(installed: Callable[[str], Installed], extra: str) -> None:
    done = installed(extra).run(COMMANDS[extra])
    assert done.returncode == 0, done.stderr


def test_every_extra_is_tested() -> None:
    assert extras() == {*COMMANDS, *brokers.BROKERS, "demo", "server"}


def test_without_an_index_it_is_installed_from_git_or_from_a_wheel(wheel: Path, tmp_path: Path) -> None:
    """With README's two forms of the requirement; what it depends on may come from anywhere."""
    forms = re.findall(r"^pip install '(.*(?:git\+|\.whl).*)'", readme(), re.MULTILINE)
    assert len(forms) == 2, forms
    git = re.sub(r"git\+https://[^@']*", f"git+{ROOT.as_uri()}", forms[0])
    for index, (form, given) in enumerate(((git, "git"), (re.sub(r"\S*\.whl", str(wheel), forms[1]), "wheel"))):
        if given == "git" and not (ROOT / ".git").exists():
            continue
        folder = tmp_path / str(index)
        folder.mkdir()
        here = Installed(folder).install(form)
        assert {"repo-notify", "gunicorn", "flask-session"} <= here.packages(), given
