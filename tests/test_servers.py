"""The servers of docs/servers.md, each started as its users do: what works there, and what the wrong ones are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import USERS
from tests.support.chat import ChatClient
from tests.support.command import environment
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, ended
from tests.support.service import answers
from tests.support.until import until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
APP = "tests.support.any_server:app"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
Connect = Callable[..., ChatClient]


def gunicorn(*options: str) -> str:
    return " ".join(("-m gunicorn --bind 127.0.0.1:{port} --log-level warning --graceful-timeout 1", *options, APP))


def own(way: str) -> str:
    return f"-m tests.support.any_server {way} {{port}}"


FLASK = f"-m flask --app {APP} run --port {{port}}"
WAITRESS = f"-m waitress --listen=127.0.0.1:{{port}} {APP}"
OUR_WORKER = "--worker-class repo_notify.gunicorn.Worker"
OUR_SERVER = "repo_notify.serving.serve(app"
UNPATCHED = "monkey.patch_all()"
ONE_AT_A_TIME = "serves one request at a time"


class Row(NamedTuple):
    """A row of the table: the command, the mode, whether the app patches; what works, and what the others are told."""

    command: str
    mode: str
    patch: bool
    works: tuple[str, ...]
    told: tuple[str, ...] = ()


BOTH, POLLING, NONE = ("websocket", "polling"), ("polling",), ()
ROWS = {
    "serve": Row(own("serve"), "gevent", True, BOTH),
    "socketio.run": Row(own("run"), "gevent", True, BOTH),
    "gunicorn, our worker": Row(gunicorn(OUR_WORKER), "gevent", False, BOTH),
    "gunicorn, gevent-websocket's worker": Row(
        gunicorn("-k geventwebsocket.gunicorn.workers.GeventWebSocketWorker"), "gevent", False, BOTH
    ),
    "gunicorn -k gevent": Row(gunicorn("-k gevent"), "gevent", False, POLLING, (OUR_WORKER,)),
    "gunicorn -k gthread, gevent": Row(
        gunicorn("-k gthread --threads 50"), "gevent", False, NONE, (UNPATCHED, OUR_WORKER)
    ),
    "gunicorn -k sync, gevent": Row(gunicorn("-k sync"), "gevent", False, NONE, (UNPATCHED, OUR_WORKER)),
    "gunicorn -k gthread, threading": Row(gunicorn("-k gthread --threads 50"), "threading", False, BOTH),
    "gunicorn -k sync, threading": Row(
        gunicorn("-k sync"), "threading", False, NONE, (ONE_AT_A_TIME, "--worker-class gthread --threads")
    ),
    "gunicorn, our worker, threading": Row(
        gunicorn(OUR_WORKER), "threading", False, POLLING, ("REPO_NOTIFY_ASYNC_MODE to gevent",)
    ),
    "gunicorn -k gevent, threading": Row(gunicorn("-k gevent"), "threading", False, BOTH),
    "flask run, gevent": Row(FLASK, "gevent", False, NONE, (UNPATCHED, "REPO_NOTIFY_ASYNC_MODE to threading")),
    "flask run, gevent, patched": Row(FLASK, "gevent", True, POLLING, ("Flask's development server", OUR_SERVER)),
    "flask run, threading": Row(FLASK, "threading", False, BOTH),
    "flask run --without-threads": Row(
        f"{FLASK} --without-threads", "threading", False, NONE, (ONE_AT_A_TIME, "--with-threads")
    ),
    "pywsgi": Row(own("pywsgi"), "gevent", True, POLLING, ("pywsgi", OUR_SERVER)),
    "pywsgi, unpatched": Row(own("pywsgi"), "gevent", False, NONE, (UNPATCHED, OUR_SERVER)),
    "pywsgi, threading": Row(
        own("pywsgi"), "threading", True, NONE, (ONE_AT_A_TIME, "REPO_NOTIFY_ASYNC_MODE to gevent")
    ),
    "waitress, threading": Row(WAITRESS, "threading", False, POLLING, ("waitress", "REPO_NOTIFY_ASYNC_MODE to gevent")),
    "waitress, gevent": Row(WAITRESS, "gevent", False, NONE, (UNPATCHED, OUR_SERVER)),
}


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the mode and the working transports of each row in the documentation."""
    table = (ROOT / "docs" / "servers.md").read_text().partition("## Table of servers")[2].partition("###")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {
        name.replace("`", ""): (mode, tuple(where for where, word in zip(BOTH, found, strict=True) if word == "yes"))
        for name, mode, *found, _ in rows[2:]
    }


def test_the_documentation_has_the_same_table() -> None:
    rows = documented()
    assert rows.pop("uWSGI") == ("both", ())
    assert rows == {name: (row.mode, row.works) for name, row in ROWS.items()}


@dataclass(frozen=True)
class Started:
    """A server that runs, and what it has written into its log."""

    served: Served
    log: Path

    def lines(self) -> list[str]:
        """Return the lines that repo_notify has written."""
        return [line for line in self.log.read_text().splitlines() if "repo_notify" in line]


@pytest.fixture
def start(sample: str, tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start servers with a host's app, for the length of the test."""
    with ExitStack() as stack:

        def run(row: Row) -> Started:
            port, log = free_port(), tmp_path / "log"
            env = environment(
                HOST_PATCH=str(int(row.patch)),
                HOST_REPO_NOTIFY_ASYNC_MODE=row.mode,
                HOST_REPO_NOTIFY_MONGO_URI=sample,
                HOST_REPO_NOTIFY_USERS_COLLECTION=USERS,
                PYTHONPATH=str(ROOT),
            )
            command = [sys.executable, *row.command.format(port=port).split()]
            output = stack.enter_context(log.open("w"))
            process = stack.enter_context(
                subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT, text=True)
            )
            stack.enter_context(ended(process))
            served = Served(f"http://127.0.0.1:{port}", process)
            until(lambda: answers(served.url) or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            return Started(served, log)

        yield run


def ask(served: Served, transport: str) -> requests.Response:
    """Begin a handshake."""
    headers = UPGRADE if transport == "websocket" else {}
    return requests.get(f"{served.url}/chat/?EIO=4&transport={transport}", headers=headers, timeout=SECONDS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_table(start: Callable[[Row], Started], chat: Connect, name: str) -> None:
    row = ROWS[name]
    started = start(row)
    for transport in row.works:
        hears_an_event(started.served, chat, transport)
    for transport in BOTH:
        if transport not in row.works:
            is_refused(started, transport, row.told)
    assert len(started.lines()) == bool(row.told), started.lines()
    assert "Traceback" not in started.log.read_text()


def hears_an_event(served: Served, chat: Connect, transport: str) -> None:
    user = User(served).log_in("carol")
    client = chat(served.url, cookie=user.cookie, transports=(transport,))
    client.join(ROOM)
    user.publish("TicketUpdated", **ROOM, kind="container", data={"n": 1})
    assert client.hear_event("containerUpdateTicket")["data"] == {"n": 1}
    client.close()


def is_refused(started: Started, transport: str, told: tuple[str, ...]) -> None:
    found = [ask(started.served, transport) for _ in range(2)]
    assert [answer.status_code for answer in found] == [501, 501]
    first, second = (answer.json()["message"] for answer in found)
    assert [word for word in told if word not in first] == []
    assert first == second
    assert first in started.lines()[0]


@pytest.mark.parametrize(
    ("command", "threads"),
    [
        (gunicorn("-k gthread --threads 3"), 3),
        (WAITRESS.replace("--listen", "--threads=3 --listen"), 3),
        (gunicorn("-k gthread"), 1),
    ],
    ids=["gthread", "waitress", "one thread"],
)
def test_too_few_threads_are_told(start: Callable[[Row], Started], command: str, threads: int) -> None:
    started = start(Row(command, "threading", False, POLLING))
    for number in range(threads):
        assert started.lines() == [], number
        assert ask(started.served, "polling").status_code == 200
    (line,) = started.lines()
    assert f"all {threads} of this server are taken" in line
    assert "--threads" in line
