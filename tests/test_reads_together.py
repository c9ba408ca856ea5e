"""Reads that arrive together go out together, whatever becomes of those who carry them out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

import pytest

from repo_notify.bounded import TooSlow
from repo_notify.sessions.together import MAX_TOGETHER, ReadFailed, Together
from tests.support.until import until

SECONDS = 15


class ThrownOut(BaseException):
    """As gevent kills a greenlet."""


class Store:
    """Answers a read when it is let to: `answer()` the next one, or have it raise."""

    def __init__(self) -> None:
        self.read_keys: list[set[str]] = []
        self._answers: list[Callable[[], None]] = []
        self._more = threading.Semaphore(0)

    def read(self, keys: Collection[str]) -> Mapping[str, str]:
        self.read_keys.append(set(keys))
        assert self._more.acquire(timeout=SECONDS)
        self._answers.pop(0)()
        return {key: f"of {key}" for key in keys if key != "none"}

    def answer(self, how: Callable[[], None] = lambda: None) -> None:
        self._answers.append(how)
        self._more.release()


def throw(error: BaseException) -> Callable[[], None]:
    def raise_it() -> NoReturn:
        raise error

    return raise_it


def waiting(together: Together[Any, Any]) -> int:
    """Return how many wait for a read that has not begun."""
    return sum(batch.waiting for batch in list(together._batches))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def ask(store: Store) -> Iterator[Callable[[str], Future[Any]]]:
    """Ask in a thread of one's own; returns when it waits."""
    together = Together(store.read)
    with ThreadPoolExecutor(64) as threads:

        def ask(key: str) -> Future[Any]:
            is_first, waited, read = not together._reading, waiting(together), len(store.read_keys)
            asked = threads.submit(together, key)
            until(lambda: len(store.read_keys) > read or (not is_first and waiting(together) > waited))
            return asked

        yield ask


def test_who_comes_alone_waits_for_nobody(store: Store, ask: Callable[[str], Future[Any]]) -> None:
    for key, found in (("a", "of a"), ("none", None)):
        asked = ask(key)
        store.answer()
        assert asked.result(SECONDS) == found
    assert store.read_keys == [{"a"}, {"none"}]


def test_who_comes_meanwhile_shares_the_next(store: Store, ask: Callable[[str], Future[Any]]) -> None:
    first = ask("a")
    others = [ask(key) for key in ("b", "c", "b", "a", "none")]
    store.answer()
    assert first.result(SECONDS) == "of a"
    store.answer()
    assert [other.result(SECONDS) for other in others] == ["of b", "of c", "of b", "of a", None]
    assert store.read_keys == [{"a"}, {"b", "c", "a", "none"}]


def test_an_error_is_everybodys_of_that_read(store: Store, ask: Callable[[str], Future[Any]]) -> None:
    first = ask("a")
    others = [ask("b"), ask("c")]
    store.answer(throw(OSError("away")))
    with pytest.raises(ReadFailed, match="OSError: away"):
        first.result(SECONDS)
    until(lambda: len(store.read_keys) == 2)
    later = ask("d")
    store.answer()
    store.answer()
    assert [other.result(SECONDS) for other in (*others, later)] == ["of b", "of c", "of d"]


def test_who_is_thrown_out_hands_the_read_over(store: Store, ask: Callable[[str], Future[Any]]) -> None:
    first = ask("a")
    others = [ask("b"), ask("c")]
    store.answer()
    first.result(SECONDS)
    store.answer(throw(ThrownOut()))
    store.answer()
    done = [other.exception(SECONDS) or other.result() for other in others]
    # Whichever of the two began is out, the other has what it asked for.
    assert sorted(map(str, done)) in (["", "of b"], ["", "of c"])
    assert store.read_keys == [{"a"}, {"b", "c"}, {"b", "c"}]


def test_a_store_that_hangs_is_not_asked_by_one_after_another(
    store: Store, ask: Callable[[str], Future[Any]]
) -> None:
    first = ask("a")
    others = [ask("b"), ask("c")]
    store.answer(throw(TooSlow("no answer")))
    assert {type(asked.exception(SECONDS)) for asked in (first, *others)} == {TooSlow}
    assert store.read_keys == [{"a"}]
    later = ask("d")
    store.answer()
    assert later.result(SECONDS) == "of d"


def test_many_are_read_in_several_goes() -> None:
    reads: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def read(keys: Collection[int]) -> Mapping[int, int]:
        reads.append(len(keys))
        begun.set()
        assert go.wait(SECONDS)
        return {key: -key for key in keys}

    together = Together(read)
    number = MAX_TOGETHER + 50
    with ThreadPoolExecutor(number + 1) as threads:
        first = threads.submit(together, 1)
        assert begun.wait(SECONDS)
        asked = [threads.submit(together, key) for key in range(number)]
        until(lambda: waiting(together) == number)
        go.set()
        assert [found.result(SECONDS) for found in (first, *asked)] == [-1, *(-key for key in range(number))]
    assert sorted(reads) == [1, 50, MAX_TOGETHER]
