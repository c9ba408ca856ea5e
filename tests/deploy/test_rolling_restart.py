"""A rolling restart behind the documented nginx: two processes, one after the other, and nobody is away for long."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select
from typing import Any

import pytest
import requests

from repo_notify import QueuePublisher, events
from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.support import brokers
from tests.support.documented import documented_nginx
from tests.support.nginx import nginx
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app, running
from tests.support.service import command, service, service_environment
from tests.support.tls import certificates
from tests.support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured, pytest.mark.timeout(240)]

CLIENTS = 100
PAUSE_SECONDS = 1 / 20
MOST_SECONDS = 3.0
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}


class Publisher:
    """Publishes twenty numbered events a second until told to stop, by way of the queue alone.

    `count` is the number of the next one.
    """

    def __init__(self, queue: str) -> None:
        self.count = 0
        self._queue = QueuePublisher(queue)
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(1)
        self._done = self._threads.submit(self._publish)

    def stop(self) -> None:
        """Stop; raises what went wrong meanwhile."""
        self._stop.set()
        self._done.result(SECONDS)
        self._threads.shutdown()

    def _publish(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            number = self.count
            self.count += 1
            # Another key in each, so that none supersedes another.
            data = {"status": "ok", "n": number, f"n{number}": True}
            self._queue.publish(events.ModelSettingsUpdated(**ROOM, kind="container", data=data))


@contextmanager
def crowd(**plan: Any) -> Iterator[subprocess.Popen[str]]:
    """Have `crowd.py` connect its clients; the block begins when all have joined and heard an event."""
    program = [sys.executable, "-m", "tests.deploy.crowd", json.dumps(plan)]
    with running(program, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert select([process.stdout], [], [], 2 * SECONDS)[0], "the clients did not all join and hear an event"
        assert process.stdout.readline() == "joined\n"
        yield process


def report(process: subprocess.Popen[str], number: int) -> list[dict[str, Any]]:
    """Return what each client went through since it had joined, and until it heard that event or a later one."""
    said, _ = process.communicate(f"{number}\n", 2 * SECONDS)
    found: list[dict[str, Any]] = json.loads(said)
    return found


class Site:
    """The standalone service in two processes, which can be restarted one by one."""

    def __init__(self, way: str, environ: dict[str, str]) -> None:
        self._way = way
        self.ports = [free_port(), free_port()]
        self._environ = environ
        self._stacks = [ExitStack(), ExitStack()]
        self._served: dict[int, Served] = {}

    def start(self, number: int) -> None:
        """Start that process and wait until it is ready."""
        port = self.ports[number]
        served = self._stacks[number].enter_context(service(command(self._way, port), self._environ, port))
        self._served[number] = served
        until(lambda: requests.get(f"{served.url}/notify/readyz", timeout=SECONDS).status_code == 200)

    def restart(self, number: int) -> None:
        """As `systemctl restart`: SIGTERM, and the next one when it has ended."""
        process = self._served[number].process
        process.terminate()
        assert process.wait(SECONDS) == 0
        self._stacks[number].close()
        self.start(number)

    def close(self) -> None:
        for stack in self._stacks:
            stack.close()


@pytest.mark.parametrize("shares_history", [False, True], ids=["a history each", "one history"])
@pytest.mark.parametrize("way", ["serve", "gunicorn"])
def test_a_rolling_restart_keeps_nobody_away_for_long(
    way: str, shares_history: bool, sample: str, tmp_path: Path
) -> None:
    """Measured at each client: how long it was out of its room, how long it heard nothing, and what it missed."""
    authority, certificate = certificates(tmp_path)
    port = free_port()
    with ExitStack() as stack:
        queue = stack.enter_context(brokers.redis(tmp_path))
        environ = {"REPO_NOTIFY_MESSAGE_QUEUE": queue, "REPO_NOTIFY_TRUSTED_PROXIES": "1"}
        environ |= {"REPO_NOTIFY_HISTORY": queue} if shares_history else {}
        site = Site(way, service_environment(sample, **environ))
        stack.callback(site.close)
        for number in range(2):
            site.start(number)
        with host_app({"REPO_NOTIFY_MONGO_URI": sample, "SESSION_COOKIE_NAME": "connect.sid"}) as rest:
            cookie = User(rest).log_in("carol").cookie
        http = documented_nginx(tmp_path, certificate, port, site.ports)
        url = stack.enter_context(nginx(tmp_path, http, f"https://localhost:{port}")).url
        publisher = Publisher(queue)
        stack.callback(publisher.stop)
        clients = stack.enter_context(
            crowd(
                url=url, authority=str(authority), cookie=cookie, clients=CLIENTS,
                room=ROOM, legacy={"account": "acme", "model": STRUCTURE}, since=shares_history,
            )
        )
        for number in range(2):
            site.restart(number)
        # Only who is back hears it; what went before may wait in the client's sockets.
        found = report(clients, publisher.count)
        logs = "".join((tmp_path / name).read_text() for name in ("chat.log", "chat-error.log"))
    for client in found:
        assert client["losses"], ("not interrupted at all", client)
        # Behind a join since a position the acknowledgement follows what is replayed, and says nothing of the absence.
        assert shares_history or client["absent"] < MOST_SECONDS, client
        assert client["silent"] < MOST_SECONDS, client
        heard = client["heard"]
        if shares_history:
            # What reached a client behind its last position may come once more (spec section 9); nothing is missing.
            assert list(dict.fromkeys(heard)) == list(range(heard[0], heard[-1] + 1))
        else:
            # What went through the queue while it was away is lost; nothing comes twice.
            assert heard == sorted(set(heard))
        assert not (shares_history and client["gaps"])
    # A session id in a query is as good as a cookie.
    assert "/chat/" in logs
    assert "sid=" not in logs
