"""The command line: what it does, its exit codes, and errors without stack traces."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from repo_notify import __version__
from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import USERS, host_defaults
from tests.support.chat import ChatClient
from tests.support.command import environment, repo_notify
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, host_app, running

pytestmark = pytest.mark.slow

KEY = "key"
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
EVENT: dict[str, Any] = {"type": "TicketUpdated", **ROOM, "kind": "container", "data": {"_id": "t"}}


@pytest.fixture(scope="module")
def server(sample: str) -> Iterator[Served]:
    with host_app({**host_defaults(sample), "REPO_NOTIFY_API_KEY": KEY}) as served:
        yield served


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--help"], ["demo", "serve", "publish", "doctor"]),
        (["demo", "--help"], ["--host", "--port", "3000", "--data-dir", "--no-seed", "--open"]),
        (["serve", "--help"], ["--host", "--port", "--config"]),
        (["publish", "--help"], ["--url", "--queue", "--key", "--channel"]),
        (["doctor", "--help"], ["MongoDB"]),
        (["--version"], [__version__]),
    ],
)
def test_help(arguments: list[str], says: list[str]) -> None:
    done = repo_notify(*arguments)
    assert done.returncode == 0
    assert all(word in done.stdout for word in says)
    assert done.stderr == ""


def test_publish_from_standard_input(server: Served, member: ChatClient) -> None:
    done = repo_notify("publish", "--url", server.url, "--key", KEY, text=json.dumps(EVENT))
    assert (done.returncode, done.stdout, done.stderr) == (0, "published 1 event\n", "")
    assert member.hear_event("containerUpdateTicket") == {**ROOM, "data": {"_id": "t"}}


def test_publish_a_file_with_the_address_in_the_environment(server: Served, member: ChatClient, tmp_path: Path) -> None:
    file = tmp_path / "events.json"
    file.write_text(json.dumps([{**EVENT, "data": {"name": "Träger"}}, EVENT]), "utf-8")
    done = repo_notify("publish", str(file), REPO_NOTIFY_URL=server.url + "/", REPO_NOTIFY_API_KEY=KEY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "published 2 events\n", "")
    assert member.hear_event("containerUpdateTicket")["data"] == {"name": "Träger"}
    assert member.hear_event("containerUpdateTicket")["data"] == {"_id": "t"}


@pytest.mark.parametrize(
    ("arguments", "text", "code", "says"),
    [
        (["--url", "{url}", "--key", "wrong"], json.dumps(EVENT), 1, "401"),
        (["--url", "{url}"], json.dumps(EVENT), 1, "401"),
        (["--url", "{url}", "--key", KEY], json.dumps({**EVENT, "kind": "house"}), 1, "one of container, federation"),
        (["--url", "{url}", "--key", KEY], "{", 1, "should hold JSON"),
        (["--url", "{url}", "--key", KEY], "[" * 100_000, 1, "should hold JSON"),
        (["--url", "{url}/nowhere", "--key", KEY], json.dumps(EVENT), 1, "404"),
        (["--url", "{closed}", "--key", KEY], json.dumps(EVENT), 1, "cannot be reached"),
        (["--url", "127.0.0.1:3000", "--key", KEY], json.dumps(EVENT), 1, "should be an http:// or https:// address"),
        (["--queue", "redis://{closed_port}/0"], json.dumps(EVENT), 1, "the message queue cannot be reached"),
        (["--queue", "redis://{closed_port}/0"], json.dumps({"type": "Nothing"}), 1, "type: one of ModelCreated"),
        (["--queue", "redis://{closed_port}/0"], json.dumps([EVENT, {"type": "Nothing"}]), 1, "event 1: type: one of"),
        (["--queue", "kafka://here"], json.dumps(EVENT), 1, "redis://"),
        ([], json.dumps(EVENT), 2, "--url of the service, or --queue"),
        (["no such file"], "", 2, "no such file"),
        (["--url", "http://[", "--key", KEY], json.dumps(EVENT), 1, "http://["),
    ],
)
def test_publish_says_what_is_wrong(server: Served, arguments: list[str], text: str, code: int, says: str) -> None:
    closed = f"127.0.0.1:{free_port()}"
    filled = [word.format(url=server.url, closed=f"http://{closed}", closed_port=closed) for word in arguments]
    done = repo_notify("publish", *filled, text=text)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""


def test_publish_to_something_that_is_no_service(sample: str, mongo_uri: str) -> None:
    done = repo_notify("publish", "--url", mongo_uri.replace("mongodb", "http"), "--key", KEY, text=json.dumps(EVENT))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Error:" in done.stderr


def test_serve_until_told_to_end(sample: str) -> None:
    environ = environment(REPO_NOTIFY_MONGO_URI=sample, REPO_NOTIFY_USERS_COLLECTION=USERS, SECRET_KEY="x")
    command = [sys.executable, "-m", "repo_notify", "serve", "--port", "0"]
    with running(command, environ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.removeprefix("listening on ")
        assert requests.get(url + "/notify/healthz", timeout=SECONDS).json() == {"status": "ok"}
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["serve"], {}, "SECRET_KEY should be"),
        (["serve"], {"SECRET_KEY": "x", "REPO_NOTIFY_PING_TIMEOUT": "long"}, "REPO_NOTIFY_PING_TIMEOUT should be"),
        (["serve", "--config", "config"], {"REPO_NOTIFY_ENV": "nowhere"}, "REPO_NOTIFY_ENV should be one of"),
        (["serve", "--host", "no.such.host.invalid"], {"SECRET_KEY": "x"}, "Error:"),
        (["serve"], {"SECRET_KEY": "x", "SESSION_TYPE": "nonsense"}, "SESSION_TYPE should be"),
        (["serve"], {"SECRET_KEY": "x", "REPO_NOTIFY_ENV": "testing"}, "REPO_NOTIFY_ENV chooses a file"),
        (["serve"], {"SECRET_KEY": "x", "PORT": "http"}, "(env var: 'PORT')"),
        (["demo"], {"HOST": "no.such.host.invalid"}, "Error:"),
    ],
)
def test_serve_says_what_is_wrong(arguments: list[str], environ: dict[str, str], says: str) -> None:
    done = repo_notify(*arguments, **environ)
    # 2 for wrong options, also from the environment.
    assert done.returncode == (2 if "env var" in says else 1)
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_serve_says_that_the_port_is_taken(server: Served) -> None:
    done = repo_notify("serve", "--port", str(server.port), SECRET_KEY="x")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
