"""`repo-notify demo`, as a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymongo import MongoClient

from repo_notify.demo.seed import STRUCTURE, USERS
from repo_notify.testing.embedded import MEMORY, EmbeddedMongo
from tests.demo.support import STRUCTURE_PATH, Client, Document
from tests.support.served import running

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "repo_notify", "demo", "--port", "0"]


@contextmanager
def demo(data_dir: Path, *options: str, **environment: str) -> Iterator[tuple[Client, str]]:
    """Run the command on a free port; yields a client and what it printed, and ends it by SIGTERM."""
    with running([*COMMAND, "--data-dir", str(data_dir), *options], environment) as process:
        assert process.stdout is not None
        printed = ""
        while "http://" not in printed:
            line = process.stdout.readline()
            assert line, f"it ended after {printed!r}"
            printed += line
        found = re.search(r"http://[^:]+:(\d+)/", printed)
        assert found is not None
        yield Client(int(found[1])), printed
    assert process.returncode == 0


@pytest.mark.unmeasured
def test_sessions_and_changes_survive_a_restart(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with demo(data_dir) as (alice, printed):
        assert all(name in printed and role in printed for name, role in USERS.items())
        assert "`demo`" in printed
        alice.log_in("alice")
        assert alice.call("PATCH", STRUCTURE_PATH, {"name": "Renamed"}).status == 200
    key = data_dir / "secret_key"
    assert key.stat().st_mode & 0o777 == 0o600
    kept = key.read_text()
    with demo(data_dir) as (again, _):
        again.cookies = alice.cookies
        assert again.call("GET", "/v5/login").json == {"username": "alice"}
        models = again.call("GET", "/demo/world").json["projects"][0]["models"]
        assert {"_id": STRUCTURE, "name": "Renamed", "kind": "container"} in models
    assert key.read_text() == kept


def test_without_sample_data(tmp_path: Path) -> None:
    with demo(tmp_path, "--no-seed", "--host", "0.0.0.0") as (client, printed):
        assert printed.startswith("The demo runs at http://localhost:")
        nothing = {"teamspace": "acme", "resettable": False, "users": [], "projects": []}
        assert client.call("GET", "/demo/world").json == nothing


def test_the_page_is_opened_on_request(tmp_path: Path) -> None:
    pipe, browser = tmp_path / "pipe", tmp_path / "browser"
    os.mkfifo(pipe)
    browser.write_text(f'#!/bin/sh\necho "$1" > {pipe}\n')
    browser.chmod(0o700)
    with demo(tmp_path / "data", "--no-seed", "--open", BROWSER=f"{browser} %s") as (client, _):
        assert pipe.read_text() == f"http://127.0.0.1:{client.port}/\n"


def test_another_database_and_its_users_collection(tmp_path: Path) -> None:
    client: MongoClient[Document]
    with EmbeddedMongo(MEMORY) as embedded, MongoClient(embedded.uri) as client:
        given = {"REPO_NOTIFY_MONGO_URI": embedded.uri, "REPO_NOTIFY_USERS_COLLECTION": "people"}
        with demo(tmp_path, **given) as (browser, _):
            browser.log_in("dave")
        assert client["admin"]["people"].count_documents({}) == len(USERS)
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_a_second_one_on_the_same_data_says_where_the_first_runs(tmp_path: Path) -> None:
    def second() -> str:
        command = [*COMMAND, "--data-dir", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        return done.stderr

    with demo(tmp_path) as (first, _):
        address = f"http://127.0.0.1:{first.port}"
        said = f"Error: Another demo runs on the data in {tmp_path}, at {address}: use that one, end it, or give "
        assert second() == f"{said}this one data of its own with --data-dir\n"
    with demo(tmp_path) as (again, _):
        assert f"at http://127.0.0.1:{again.port}:" in second()


@pytest.mark.unmeasured
def test_a_database_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with (
        EmbeddedMongo(MEMORY) as embedded,
        demo(tmp_path, REPO_NOTIFY_MONGO_URI=embedded.uri, REPO_NOTIFY_USERS_COLLECTION="users") as (alice, _),
    ):
        alice.log_in("alice")
        embedded.__exit__(None, None, None)
        for method, path, body in (("GET", "/demo/world", None), ("PATCH", STRUCTURE_PATH, {"unit": "m"})):
            answer = alice.call(method, path, body)
            assert (answer.status, answer.json["code"]) == (503, "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"REPO_NOTIFY_MONGO_URI": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"}, "127.0.0.1:1"),
    ],
)
def test_what_prevents_the_start_is_said_in_one_line(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    command = [*COMMAND, "--data-dir", str(tmp_path)]
    found = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=60
    )
    assert found.returncode != 0
    assert said in found.stderr
    assert "Traceback" not in found.stderr
