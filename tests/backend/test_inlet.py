"""The way into a stream, against a real Redis: each message once, by whichever entry is the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from repo_notify.delivery.history.log import Bounds
from repo_notify.delivery.history.redis import Service
from repo_notify.delivery.history.redis_stream import RedisStream
from repo_notify.delivery.history.shared import SharedHistory
from repo_notify.delivery.inlet import Brought, Entry, Inlet, Superseded
from repo_notify.delivery.messages import Message
from repo_notify.delivery.stream import Receiver, Stream
from repo_notify.metrics import Metrics
from tests.support import brokers
from tests.support.until import until

pytestmark = pytest.mark.slow

BODY = b'{"n":1}'


class Process:
    """A process's side of a stream; `heard` is what it delivered."""

    def __init__(self, address: str, name: str) -> None:
        self.heard: list[object] = []
        redis = RedisStream(Service(address, name, seconds=60))
        receiver = Receiver(self._receive, lambda message, at: None, lambda: None)
        stream = Stream(redis, SharedHistory(Bounds()), receiver, Metrics(), threading.RLock())
        stream.open()
        self.inlet, self.close = Inlet(stream, redis), stream.close

    def _receive(self, message: Message) -> None:
        self.heard.append(message.content["n"])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("redis")
    with brokers.redis(folder) as found:
        yield found


@pytest.fixture
def processes(address: str) -> Iterator[list[Process]]:
    name = uuid4().hex
    with ExitStack() as stack:
        found = [Process(address, name) for _ in range(2)]
        for process in found:
            stack.callback(process.close)
        yield found


def bring(entry: Entry, body: bytes = BODY, *, again: bool = False) -> Brought:
    brought = entry.bring(body, again=again)
    assert brought is not None
    until(lambda: entry.has(brought))
    return brought


def hear(processes: list[Process], expected: list[object]) -> Callable[[], bool]:
    return lambda: all(process.heard == expected for process in processes)


def test_what_was_not_acknowledged_is_brought_once(processes: list[Process]) -> None:
    first, second = processes
    before = first.inlet.enter()
    bring(before)
    bring(before)
    after = second.inlet.enter()
    assert bring(after, again=True).ticket is None
    assert bring(after, again=True).ticket is None
    # There were two of them: this one is another.
    assert bring(after, again=True).ticket is not None
    until(hear(processes, [1, 1, 1]))


def test_one_that_is_like_another_is_another(processes: list[Process]) -> None:
    entry = processes[0].inlet.enter()
    for _ in range(3):
        assert bring(entry).ticket is not None
    until(hear(processes, [1, 1, 1]))


def test_what_was_released_is_not_known_any_more(processes: list[Process]) -> None:
    entry = processes[0].inlet.enter()
    entry.release([bring(entry)], is_all=False)
    assert bring(processes[1].inlet.enter(), again=True).ticket is not None
    until(hear(processes, [1, 1]))


def test_who_was_superseded_brings_nothing_and_acknowledges_nothing(processes: list[Process]) -> None:
    first, second = processes
    before, after = first.inlet.enter(), second.inlet.enter()
    late = bring(before)
    with pytest.raises(Superseded):
        before.confirm()
    with pytest.raises(Superseded):
        before.release([late], is_all=True)
    bring(after, b'{"n":2}')
    until(hear(processes, [2]))


def test_who_has_nothing_left_removes_the_marks_of_who_died(processes: list[Process]) -> None:
    first, second = processes
    # It is acknowledged, but dies before it can say so.
    bring(first.inlet.enter())
    after = second.inlet.enter()
    other = b'{"n":2}'
    after.release([bring(after, other)], is_all=True)
    assert bring(first.inlet.enter(), again=True).ticket is not None
    until(hear(processes, [1, 2, 1]))


def test_a_new_queue_has_no_marks(processes: list[Process]) -> None:
    first, second = processes
    bring(first.inlet.enter())
    second.inlet.renewed()
    assert bring(second.inlet.enter(), again=True).ticket is not None
    until(hear(processes, [1, 1]))
