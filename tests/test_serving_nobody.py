"""Processes that serve nobody, such as Flask's commands, cron jobs and workers: they publish, and end."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from flask import Flask

from repo_notify import RepoNotify, events
from repo_notify.app import create_app
from repo_notify.delivery.queue import FLUSH_SECONDS
from repo_notify.demo.seed import STRUCTURE, TOWER
from repo_notify.errors import SettingsError
from repo_notify.serving import serve, state_of
from tests.conftest import host_defaults
from tests.support import brokers
from tests.support.chat import ChatClient
from tests.support.command import environment
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.until import until

ROOT = Path(__file__).parent.parent
CHANNEL = "commands"
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
COUNT = 50
# A REST API with a command, as a user writes it: nothing is patched, nothing says that this is a command.
HOST = f"""
import multiprocessing, os
from flask import Flask
from repo_notify import RepoNotify, events

app = Flask(__name__)
app.config.update(SECRET_KEY="x", REPO_NOTIFY_MONGO_URI="mongodb://127.0.0.1:1")
app.config.from_prefixed_env("HOST")
notify = RepoNotify(app)
FIELDS = dict(teamspace="acme", project="{TOWER}", model="{STRUCTURE}", kind="container")

def publish():
    for number in range({COUNT}):
        notify.publish(events.TicketUpdated(**FIELDS, data={{"n": number}}))

@app.cli.command("tell")
def tell():
    publish()
    print("told")

@app.cli.command("delegate")
def delegate():
    child = multiprocessing.get_context("fork").Process(target=publish)
    child.start()
    child.join()
    print("told")
"""


# A worker whose child process ends with each task.
TASKS = """
import os
from celery import Celery
import rest_api
celery = Celery("tasks", broker=os.environ["BROKER"])
tell = celery.task(name="tell")(rest_api.publish)
"""
WORKER = "-m celery -A tasks.celery worker --pool prefork --concurrency 1 --max-tasks-per-child 1 --loglevel INFO"


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with brokers.redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module", params=["REPO_NOTIFY_MESSAGE_QUEUE", "REPO_NOTIFY_HISTORY"])
def link(request: pytest.FixtureRequest, queue: str) -> dict[str, str]:
    """What joins a process to those that serve."""
    return {request.param: queue, "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": f"{CHANNEL}.{request.param}"}


@pytest.fixture(scope="module")
def served(sample: str, link: dict[str, str]) -> Iterator[Served]:
    with host_app({**host_defaults(sample), **link}) as served:
        yield served


@pytest.fixture
def flask(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of the host's with those settings."""
    (tmp_path / "rest_api.py").write_text(HOST)

    def run(command: str, **config: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "flask", "--app", "rest_api", command],
            env=environment(PYTHONPATH=str(ROOT), **{f"HOST_{key}": value for key, value in config.items()}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS * 2,
            check=False,
        )

    return run


@pytest.mark.parametrize("command", ["tell", "delegate"])
def test_what_a_command_publishes_is_heard(
    flask: Callable[..., Any], served: Served, link: dict[str, str], chat: Callable[..., ChatClient], command: str
) -> None:
    client = chat(served.url, cookie=User(served).log_in("carol").cookie)
    client.join(ROOM)
    done = flask(command, **link)
    assert (done.returncode, done.stdout, done.stderr) == (0, "told\n", "")
    heard = [client.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(COUNT)]
    assert heard == list(range(COUNT))


def test_what_a_celery_task_publishes_is_heard(
    tmp_path: Path, served: Served, link: dict[str, str], queue: str, chat: Callable[..., ChatClient]
) -> None:
    (tmp_path / "rest_api.py").write_text(HOST)
    (tmp_path / "tasks.py").write_text(TASKS)
    env = environment(
        PYTHONPATH=str(ROOT),
        BROKER=f"{queue.removesuffix('/0')}/1",
        **{f"HOST_{name}": value for name, value in link.items()},
    )
    client = chat(served.url, cookie=User(served).log_in("carol").cookie)
    client.join(ROOM)
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([sys.executable, *WORKER.split()], env=env, cwd=tmp_path, stdout=log, stderr=log) as worker,
    ):
        try:
            until(lambda: "ready." in (tmp_path / "log").read_text(), (tmp_path / "log").read_text)
            ask = [sys.executable, "-c", "import tasks; tasks.tell.delay()"]
            for _ in range(2):
                subprocess.run(ask, env=env, cwd=tmp_path, timeout=SECONDS, check=True)
                heard = [client.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(COUNT)]
                assert heard == list(range(COUNT)), (tmp_path / "log").read_text()
        finally:
            worker.terminate()
            worker.wait(SECONDS * 2)


def test_what_cannot_be_sent_is_told_in_time(flask: Callable[..., Any]) -> None:
    done = flask("tell", REPO_NOTIFY_MESSAGE_QUEUE=f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert (done.returncode, done.stdout) == (0, "told\n")
    assert f"{COUNT} messages for the other processes lost" in done.stderr
    assert "cannot be reached" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_queue_it_is_told_once_that_nobody_can_hear(flask: Callable[..., Any]) -> None:
    done = flask("tell")
    assert (done.returncode, done.stdout) == (0, "told\n")
    assert done.stderr.count("published TicketUpdated where nobody can hear it") == 1
    assert "REPO_NOTIFY_MESSAGE_QUEUE" in done.stderr
    assert done.stderr.count("\n") == 1


def make_app(**config: Any) -> tuple[Flask, RepoNotify]:
    app = Flask("host")
    app.config.update(SECRET_KEY="x", REPO_NOTIFY_MONGO_URI="mongodb://127.0.0.1:1", **config)
    return app, RepoNotify(app)


@pytest.mark.parametrize("mode", ["gevent", "threading"])
def test_making_an_app_starts_no_thread(mode: str) -> None:
    before = threading.enumerate()
    config = {"SECRET_KEY": "x", "REPO_NOTIFY_ASYNC_MODE": mode, "REPO_NOTIFY_MESSAGE_QUEUE": "redis://127.0.0.1:1/0"}
    app = create_app(config)
    assert app.test_client().get("/notify/healthz").status_code == 200
    assert threading.enumerate() == before


def test_closing_waits_for_what_was_published(
    served: Served, link: dict[str, str], chat: Callable[..., ChatClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = chat(served.url, cookie=User(served).log_in("carol").cookie)
    client.join(ROOM)
    before = threading.enumerate()
    app, notify = make_app(**link)
    for number in range(2):
        # Also what is published after the end: a request may still be answered then.
        notify.publish(events.TicketUpdated(**ROOM, kind="container", data={"n": number}))
        state_of(app).close()
    assert [client.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(2)] == [0, 1]
    until(lambda: threading.enumerate() == before, threading.enumerate)
    assert not caplog.records


def test_closing_is_bounded_and_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        app, notify = make_app(REPO_NOTIFY_MESSAGE_QUEUE=f"redis://127.0.0.1:{mute.getsockname()[1]}/0")
        notify.publish(events.TicketUpdated(**ROOM, kind="container", data={}))
        started = monotonic()
        state_of(app).close()
        took = monotonic() - started
    assert FLUSH_SECONDS - 0.1 < took < FLUSH_SECONDS * 3
    assert "1 message for the other processes lost, as the message queue did not take it within 2 s" in caplog.text


def test_serving_on_gevent_needs_a_patched_process() -> None:
    app, notify = make_app()
    for begin in (
        lambda: serve(app, host="127.0.0.1", port=0),
        lambda: notify.socketio.run(app, port=0),
    ):
        with pytest.raises(RuntimeError, match=r"from gevent import monkey; monkey\.patch_all\(\)"):
            begin()


def test_our_own_server_runs_gevent_only() -> None:
    app, _ = make_app(REPO_NOTIFY_ASYNC_MODE="threading")
    with pytest.raises(SettingsError, match="REPO_NOTIFY_ASYNC_MODE should be gevent"):
        serve(app, host="127.0.0.1", port=0)
