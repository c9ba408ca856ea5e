"""`repo-notify serve --workers N`: several processes on one port, which serve as one, and end as one."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
import requests
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from prometheus_client.parser import text_string_to_metric_families

from repo_notify.workers import GRACE_SECONDS
from tests.support import brokers
from tests.support.audience import Place
from tests.support.chat import ChatClient
from tests.support.command import environment, repo_notify
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.returning import Returning
from tests.support.served import SECONDS, Served, User, running
from tests.support.service import API_KEY, START_SECONDS, USERS
from tests.support.teamspaces import Teamspace
from tests.support.until import until
from tests.test_recovery import numbers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SECRET, READER = "a REST API's own", "carol"
WORKERS, CLIENTS = 2, 12
SHUTDOWN_SECONDS = 4.0
COMMAND = [sys.executable, "-m", "repo_notify", "serve"]
Several = Callable[..., Served]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with brokers.redis(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture(scope="module")
def settings(sample: str, address: str) -> dict[str, str]:
    return {
        "REPO_NOTIFY_MONGO_URI": sample,
        "REPO_NOTIFY_USERS_COLLECTION": USERS,
        "REPO_NOTIFY_HISTORY": address,
        "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": f"several{uuid4().hex}",
        "REPO_NOTIFY_API_KEY": API_KEY,
        "REPO_NOTIFY_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS),
        "SECRET_KEY": SECRET,
    }


@contextmanager
def several(settings: dict[str, str]) -> Iterator[Served]:
    """Run the service in two workers; the block begins when both serve."""
    command = [*COMMAND, "--port", "0", "--workers", str(WORKERS)]
    with running(command, environment(**settings)) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("listening on http://127.0.0.1:"), line
        served = Served(line.removeprefix("listening on "), process)
        until(lambda: len(workers(served)) == WORKERS, seconds=START_SECONDS)
        yield served


@pytest.fixture(scope="module")
def lasting(settings: dict[str, str]) -> Iterator[Served]:
    """Serve for the tests that leave the service as it was."""
    with several(settings) as found:
        yield found


@pytest.fixture
def served(settings: dict[str, str]) -> Iterator[Served]:
    with several(settings) as found:
        yield found


def samples(served: Served, name: str) -> dict[int, tuple[float, dict[str, str]]]:
    """Return one sample of each worker that answers, by its process id: each question is a connection of its own."""
    found = {}
    for _ in range(20):
        # Whom the kernel had given to a worker that is killed is refused.
        with suppress(requests.ConnectionError):
            text = requests.get(served.url + "/notify/metrics", timeout=SECONDS).text
            every = [each for family in text_string_to_metric_families(text) for each in family.samples]
            pid = next(int(each.labels["pid"]) for each in every if each.name == "repo_notify_worker_info")
            mine = [each for each in every if each.name == name]
            found[pid] = sum(each.value for each in mine), dict(mine[0].labels) if mine else {}
    return found


def workers(served: Served) -> set[int]:
    return set(samples(served, "repo_notify_worker_info"))


def cookie() -> str:
    app = Flask(__name__)
    app.secret_key = SECRET
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    return f"connect.sid={serializer.dumps({'user': {'username': READER}})}"


@pytest.fixture
def place(teamspaces: Callable[..., Teamspace]) -> Place:
    found = Place(teamspaces())
    found.teamspace.model({READER: "viewer"}, _id=found.model)
    return found


@contextmanager
def members(served: Served, place: Place) -> Iterator[list[Returning]]:
    """Bring clients into the model's room, and end them."""
    with ExitStack() as stack:
        found = []
        for _ in range(CLIENTS):
            client = Returning(served.url, cookie()).connect()
            stack.callback(let_go, client)
            assert client.join(place.in_model)["event"] == "success"
            found.append(client)
        yield found


def let_go(client: Returning) -> None:
    with suppress(OSError, AssertionError):
        client.drop()


def publish(served: Served, place: Place, number: int) -> None:
    """Publish by whichever worker gets the request."""
    event: Any = {
        "type": "TicketUpdated",
        **place.in_model,
        "kind": "container",
        "data": {"_id": str(number), "n": number},
    }
    headers = {"Authorization": f"Bearer {API_KEY}"}
    requests.post(served.url + "/notify/events", json=event, headers=headers, timeout=SECONDS).raise_for_status()


def is_closed(client: Returning) -> bool:
    """Whether the connection has ended, whatever is to be read before that."""
    assert client._connection is not None
    raw: Any = client._connection.sock
    poll = select.poll()
    poll.register(raw, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def has_ipv6() -> bool:
    with suppress(OSError), closing(socket.socket(socket.AF_INET6)) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def test_clients_of_all_workers_hear_each_event_once(lasting: Served, place: Place) -> None:
    with members(lasting, place) as clients:
        connections = {pid: value for pid, (value, _) in samples(lasting, "repo_notify_connections").items()}
        assert sum(connections.values()) == CLIENTS
        assert all(connections.values()), "the kernel has given all to one of them"
        for number in range(10):
            publish(lasting, place, number)
        for client in clients:
            assert numbers(client.hear(10)) == list(range(10))
            assert client.heard_so_far() == []
    assert all(labels["shared"] == "true" for _, labels in samples(lasting, "repo_notify_worker_info").values())


def test_a_killed_worker_is_replaced_and_its_clients_recover(lasting: Served, place: Place) -> None:
    with members(lasting, place) as clients:
        publish(lasting, place, 0)
        for client in clients:
            assert numbers(client.hear(1)) == [0]
        killed, (number, _) = samples(lasting, "repo_notify_connections").popitem()
        os.kill(killed, signal.SIGKILL)
        until(lambda: sum(map(is_closed, clients)) == number)
        publish(lasting, place, 1)
        for client in clients:
            if is_closed(client):
                client.connect()
                assert client.recovered
            assert numbers(client.hear(1)) == [1]
        until(lambda: len(workers(lasting)) == WORKERS, seconds=START_SECONDS)
        assert killed not in workers(lasting)
        publish(lasting, place, 2)
        for client in clients:
            assert numbers(client.hear(1)) == [2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_within_the_drain(served: Served, place: Place, number: signal.Signals) -> None:
    with members(served, place) as clients:
        pids = workers(served)
        started = monotonic()
        served.process.send_signal(number)
        assert served.process.wait(SECONDS) == 0
        # Longer takes only who is killed.
        assert monotonic() - started < SHUTDOWN_SECONDS + GRACE_SECONDS
        assert all(map(is_closed, clients))
        assert not any(map(is_running, pids))


def test_workers_do_not_outlive_their_parent(served: Served) -> None:
    pids = workers(served)
    served.process.kill()
    try:
        until(lambda: not any(map(is_running, pids)))
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)


def test_polling_is_refused_with_the_cure(lasting: Served) -> None:
    answer = requests.get(lasting.url + "/chat/?EIO=4&transport=polling", timeout=SECONDS)
    assert answer.status_code == 400
    assert answer.json()["code"] == 0
    assert "connect with transports: ['websocket']" in answer.json()["message"]


@pytest.mark.parametrize("query", ["EIO=4&transport=polling", "EIO=3&transport=polling", "transport=polling&j=0&EIO=3"])
def test_polling_is_refused_where_a_setting_says_so(serve_host: Callable[..., Served], query: str) -> None:
    host = serve_host(REPO_NOTIFY_POLLING=False)
    answer = requests.get(f"{host.url}/chat/?{query}", timeout=SECONDS)
    assert answer.status_code == 400
    assert "REPO_NOTIFY_POLLING" in answer.text
    assert metric(host, "repo_notify_handshakes_total", outcome="no_polling") >= 1
    user = User(host).log_in(READER)
    with closing(ChatClient(host.url, cookie=user.cookie)) as client:
        assert client.ask("join", {"notifications": True})["event"] == "success"


@pytest.mark.parametrize("history", ["memory", "off", "mongodb"])
def test_several_need_what_joins_them(settings: dict[str, str], history: str) -> None:
    done = repo_notify("serve", "--workers", "2", **{**settings, "REPO_NOTIFY_HISTORY": history})
    assert done.returncode == 1
    assert "REPO_NOTIFY_HISTORY should be the address of a Redis for several workers" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_queue_joins_them_too(settings: dict[str, str], address: str, place: Place) -> None:
    with (
        several({**settings, "REPO_NOTIFY_HISTORY": "off", "REPO_NOTIFY_MESSAGE_QUEUE": address}) as served,
        members(served, place) as clients,
    ):
        publish(served, place, 1)
        for client in clients:
            assert numbers(client.hear(1)) == [1]


def test_what_is_wrong_with_the_first_is_said_once(settings: dict[str, str]) -> None:
    done = repo_notify("serve", "--workers", "2", "--port", "0", **{**settings, "SESSION_TYPE": "nonsense"})
    assert done.returncode == 1
    assert done.stderr.count("SESSION_TYPE should be") == 1
    assert "the first worker did not start: it ended with code 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_port_of_another_service_is_taken(settings: dict[str, str], lasting: Served) -> None:
    done = repo_notify("serve", "--workers", "2", "--port", str(lasting.port), **settings)
    assert done.returncode == 1
    assert "Address already in use" in done.stderr


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
def test_a_port_in_the_environment_on_ipv6(settings: dict[str, str]) -> None:
    port = free_port()
    environ = environment(**settings, PORT=str(port), HOST="::1")
    with running([*COMMAND, "--workers", "2"], environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == f"listening on http://[::1]:{port}"
        assert requests.get(f"http://[::1]:{port}/notify/healthz", timeout=SECONDS).json() == {"status": "ok"}


def test_one_that_ends_again_and_again_is_started_later_and_later() -> None:
    program = (
        "from gevent import monkey; monkey.patch_all(); import sys; from repo_notify.workers import Workers; "
        "Workers([sys.executable, '-c', 'print(1)'], 1, shutdown_timeout=1).run(lambda: print('ready', flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(3)]
        process.terminate()
        assert process.wait(SECONDS) == 0
    for line, pause in zip(lines, ("0.5", "1", "2"), strict=True):
        assert line.endswith(f"ended with code 0; another one starts in {pause} s\n")
