"""A broker that falls silent, loses answers or refuses a message costs what it must, and all of that is counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest

from repo_notify.delivery import messages
from repo_notify.delivery import queue as queue_module
from repo_notify.delivery.broker import Deadlines, connect, leave, sender
from repo_notify.delivery.messages import Message
from repo_notify.delivery.queue import Bus
from repo_notify.metrics import Metrics
from tests.support import brokers
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.served import Served
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until
from tests.test_queue import queue_settings, ready, until_ready

pytestmark = pytest.mark.slow

SHORT = Deadlines(connect=2.0, io=0.7, heartbeat=2, release=0.5, probe=0.3, echo=1.5, silent=2.0)
BOUND_SECONDS = 15


@dataclass
class End:
    """One process's end of the queue, without a server: what it heard and counted."""

    url: str
    heard: list[object] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.bus = Bus(self.url, "tests", self._hear, self.metrics, SHORT)

    def _hear(self, message: Message) -> None:
        self.heard.append(message.content.get("n"))

    def send(self, number: int, size: int = 0) -> None:
        self.bus.send(messages.EVENT, messages.dump({"n": number, "filling": "x" * size}))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"repo_notify_queue_{name}", labels) or 0.0

    def is_up(self) -> bool:
        return self.bus.problem() is None


@contextmanager
def ends(*urls: str) -> Iterator[list[End]]:
    found = [End(url) for url in urls]
    try:
        for end in found:
            until(end.is_up, end.bus.problem)
        yield found
    finally:
        for end in found:
            end.bus.close()


@pytest.fixture(scope="module", params=brokers.BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with brokers.BROKERS[request.param](tmp_path_factory.mktemp("broker"), max_bytes=1 << 20) as url:
        yield url


def behind(proxy: TcpProxy, url: str) -> str:
    return url.replace(f":{urlsplit(url).port}", f":{proxy.port}")


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def test_a_silent_broker_is_told_within_15_s(serve_host: Callable[..., Served], tmp_path: Path) -> None:
    with brokers.redis(tmp_path) as url, TcpProxy(port_of(url)) as proxy:
        served = serve_host(**queue_settings(behind(proxy, url)))
        until_ready(served)
        assert metric(served, "repo_notify_queue_up") == 1
        proxy.freeze(new_too=True)
        frozen = monotonic()
        until(lambda: ready(served).json()["status"] == "degraded", seconds=BOUND_SECONDS)
        until(lambda: metric(served, "repo_notify_queue_errors_total") > 0, seconds=BOUND_SECONDS)
        assert monotonic() - frozen < BOUND_SECONDS
        assert list(ready(served).json()["reasons"]) == ["message_queue"]
        assert metric(served, "repo_notify_queue_up") == 0
        proxy.thaw()
        until_ready(served)
        assert metric(served, "repo_notify_queue_up") == 1


def test_connections_that_freeze_are_noticed_and_left(broker: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "repo_notify")
    with TcpProxy(port_of(broker)) as proxy, ends(behind(proxy, broker), broker) as (here, there):
        here.send(1)
        there.send(2)
        until(lambda: (there.heard, here.heard) == ([1], [2]))
        proxy.freeze()
        here.send(3)
        until(lambda: not here.is_up())
        assert here.count("up") == 0
        # Both connections, the one that sends and the one that receives.
        until(lambda: here.count("errors_total") >= 2, lambda: caplog.messages)
        until(here.is_up, here.bus.problem)
        until(lambda: 3 in there.heard)
        there.send(4)
        until(lambda: 4 in here.heard, lambda: here.heard)
        assert there.heard == [1, 3]
        assert any("cannot be reached" in text for text in caplog.messages)
        assert "the message queue works again" in caplog.messages


def test_a_message_whose_answer_was_lost_is_carried_out_once(broker: str) -> None:
    with TcpProxy(port_of(broker)) as proxy, ends(behind(proxy, broker), broker) as (here, there):
        here.send(1)
        until(lambda: there.heard == [1])
        proxy.lose_answer_to(5_000)
        here.send(2, size=10_000)
        here.send(3)
        until(lambda: 3 in there.heard, lambda: there.heard)
        until(lambda: there.count("repeats_total") == 1, lambda: there.heard)
        assert there.heard == [1, 2, 3]
        assert there.count("holes_total") == 0


def test_what_did_not_arrive_is_counted_and_logged_once(broker: str, caplog: pytest.LogCaptureFixture) -> None:
    with ends(broker) as (end,):
        connection = connect(broker, SHORT)
        send = sender(connection, "tests")
        for number, kind in ((1, "event"), (4, "event"), (6, "alive"), (7, "event")):
            send(messages.envelope("another", number, kind, messages.dump({"n": number})))
        leave(connection, SHORT, working=True)
        until(lambda: end.heard == [1, 4, 7], lambda: end.heard)
        assert end.count("holes_total") == 4
        assert len([text for text in caplog.messages if "did not arrive" in text]) == 1


def test_a_message_that_the_broker_refuses_is_dropped_alone(broker: str, caplog: pytest.LogCaptureFixture) -> None:
    with ends(broker, broker) as (here, there):
        here.send(1)
        here.send(2, size=2 << 20)
        here.send(3)
        until(lambda: there.heard == [1, 3], lambda: there.heard)
        assert here.count("dropped_total", reason="refused") == 1
        assert there.count("holes_total") == 1
        assert len([text for text in caplog.messages if "refuses a message" in text]) == 1
        until(here.is_up, here.bus.problem)


def test_what_waits_is_bounded_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    end = End(f"redis://127.0.0.1:{free_port()}/0")
    try:
        for number in range(66):
            end.send(number, size=1 << 20)
        kept = end.count("backlog_messages")
        assert 60 < kept < 64
        assert end.count("dropped_total", reason="backlog_bytes") == 66 - kept
        assert end.count("backlog_bytes") <= queue_module.MAX_WAITING_BYTES
        assert len([text for text in caplog.messages if "backlog full" in text]) == 1
    finally:
        end.bus.close()
    end = End(f"redis://127.0.0.1:{free_port()}/0")
    try:
        for number in range(queue_module.MAX_WAITING + 5):
            end.send(number)
        assert end.count("dropped_total", reason="backlog_messages") == 5
    finally:
        end.bus.close()


@pytest.mark.parametrize("url", ["redis://:hunter2@127.0.0.1:port/0", "redis://127.0.0.1:1/hunter2", "nothing://x"])
def test_whatever_is_raised_in_the_background_the_work_goes_on(url: str, caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    end = End(url)
    try:
        end.send(1)
        until(lambda: end.count("errors_total") >= 4)
        assert not end.is_up()
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert {"repo_notify-receiver", "repo_notify-sender"} <= names
        assert len([text for text in caplog.messages if "cannot be reached" in text]) == 1
        assert ":hunter2@" not in caplog.text
    finally:
        end.bus.close()
