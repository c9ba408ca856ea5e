"""docs/testing.md's project, written to an empty directory and run by pytest as a reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import environment
from tests.support.unmeasured import unmeasured_children

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n# (?P<name>\w+\.py)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 100


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    env = {**environment(), "PYTHONPATH": f"{ROOT}:{folder}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)


def write_project(folder: Path) -> list[str]:
    blocks = list(BLOCK.finditer((ROOT / "docs" / "testing.md").read_text()))
    for block in blocks:
        (folder / block["name"]).write_text(block["text"])
    return [block["name"] for block in blocks]


def test_the_examples_of_the_docs_run(tmp_path: Path) -> None:
    names = write_project(tmp_path)
    assert {"shop.py", "conftest.py"} < set(names)
    assert len(names) == len(set(names)) > 6
    done = run_pytest(tmp_path, "-q", "-W", "error", "-p", "tests.support.measured_threads")
    assert done.returncode == 0, done.stdout + done.stderr
    tests = "".join(path.read_text() for path in tmp_path.glob("test_*.py"))
    number = len(re.findall(r"^ *def test_", tests, re.MULTILINE))
    assert f"{number} passed" in done.stdout


def test_the_docs_name_every_fixture() -> None:
    plugin = (ROOT / "repo_notify" / "testing" / "plugin.py").read_text()
    fixtures = set(re.findall(r"^@pytest\.fixture.*\ndef (\w+)", plugin, re.MULTILINE))
    table = set(re.findall(r"^\| `(notify_\w+)` \|", (ROOT / "docs" / "testing.md").read_text(), re.MULTILINE))
    assert fixtures == table


LATE = """
import sys

pytest_plugins = ["repo_notify.testing.plugin"]

def pytest_collection_finish():
    heavy = {"gevent", "flask", "flask_socketio", "kombu", "pymongo", "wsproto"} & set(sys.modules)
    assert not heavy, heavy
"""


def test_the_plugin_imports_nothing_before_a_fixture_is_used(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(LATE)
    (tmp_path / "test_any.py").write_text("def test_any(): pass")
    # What measures a process imports gevent itself.
    with unmeasured_children():
        done = run_pytest(tmp_path, "-q")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_without_being_named_it_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "test_any.py").write_text("import sys\ndef test_any(): assert 'repo_notify' not in sys.modules")
    done = run_pytest(tmp_path, "-q")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("", "define a fixture `app` that returns it, or `notify_app`"),
        ("@pytest.fixture\ndef app(): return flask.Flask('x')\n", r"call notify.init_app(app) in its factory"),
    ],
)
def test_a_missing_app_is_said(tmp_path: Path, app: str, says: str) -> None:
    (tmp_path / "conftest.py").write_text(
        f"import flask, pytest\npytest_plugins = ['repo_notify.testing.plugin']\n{app}"
    )
    (tmp_path / "test_any.py").write_text("def test_any(notify_events): pass\ndef test_served(notify_server): pass")
    done = run_pytest(tmp_path, "-q")
    assert "2 errors" in done.stdout
    assert done.stdout.count(says) >= 2, done.stdout
