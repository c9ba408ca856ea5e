"""Haste and order of one connection's requests."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.membership.rate_limit import Bucket, Limiter, RateLimit
from repo_notify.stock_sockets import FifoLock
from tests.support.unmeasured import unmeasured

SECONDS = 5


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_rate() -> None:
    clock = Clock()
    bucket = Bucket(3, 2.0, clock)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.5
    assert [bucket.take(), bucket.take()] == [0, 0.5]


def test_waiting_longer_than_the_burst_fills_it_no_further() -> None:
    clock = Clock()
    bucket = Bucket(3, 2.0, clock)
    clock.now += 3600
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket = Bucket(1, 0.25, Clock())
    assert [bucket.take(), bucket.take(), bucket.take()] == [0, 4, 4]


@given(st.integers(1, 20), st.floats(0.1, 100), st.lists(st.floats(0, 2), max_size=100))
def test_never_more_than_burst_and_rate_allow(burst: int, rate: float, pauses: list[float]) -> None:
    clock = Clock()
    bucket = Bucket(burst, rate, clock)
    taken = 0
    for pause in pauses:
        clock.now += pause
        taken += bucket.take() == 0
    assert taken <= burst + rate * (clock.now - 100.0) + 1e-6


@given(st.integers(1, 5), st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]))
def test_the_wait_that_is_told_is_enough(burst: int, rate: float) -> None:
    clock = Clock()
    bucket = Bucket(burst, rate, clock)
    while not (wait := bucket.take()):
        pass
    clock.now += wait
    assert bucket.take() == 0


def test_the_hard_limit_is_passed_after_so_many_refusals() -> None:
    # A rate so low that nothing comes back during the test.
    limiter = Limiter(RateLimit(burst=2, rate=1e-6, hard_limit=3))
    found = [(limiter.take() > 0 and (limiter.refuse() or None)) for _ in range(6)]
    assert found == [False, False, None, None, None, True]


def test_a_lock_keeps_the_order_of_asking() -> None:
    lock = FifoLock(threading.Lock())
    order: list[int] = []

    def pass_through(number: int) -> None:
        with lock:
            order.append(number)

    threads = [threading.Thread(target=pass_through, args=(number,)) for number in range(20)]
    with unmeasured(), lock:
        for number, thread in enumerate(threads):
            thread.start()
            while lock.waiting == number:
                thread.join(0.001)
        assert order == []
    for thread in threads:
        thread.join(SECONDS)
    assert order == list(range(20))


def test_a_lock_goes_on_after_an_error() -> None:
    lock = FifoLock(threading.Lock())
    with pytest.raises(ValueError, match="mine"), lock:
        raise ValueError("mine")
    with lock:
        pass
    assert not lock.waiting


class Ended(Exception):
    """A task is told to end while it waits."""


@contextmanager
def on_alarm(what: Callable[[], None]) -> Iterator[None]:
    """Have the main thread do that and then end what it waits in, when SIGALRM comes."""

    def end(*_: object) -> None:
        what()
        raise Ended

    before = signal.signal(signal.SIGALRM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def when_waiting(lock: FifoLock, *steps: Callable[[], object]) -> threading.Thread:
    """Carry out the first step when one waits, the second when two do."""

    def run() -> None:
        for number, step in enumerate(steps, 1):
            while lock.waiting < number:
                sleep(0.001)
            step()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def alarm() -> None:
    os.kill(os.getpid(), signal.SIGALRM)


def test_who_is_ended_while_waiting_holds_nobody_up() -> None:
    lock = FifoLock(threading.Lock())
    with unmeasured(), on_alarm(lambda: None), lock:
        ending = when_waiting(lock, alarm)
        with pytest.raises(Ended), lock:
            pytest.fail("it was not its turn")
        ending.join(SECONDS)
        assert not lock.waiting
    with lock:
        pass


def test_who_is_ended_when_the_turn_has_come_passes_it_on() -> None:
    lock = FifoLock(threading.Lock())
    passed = threading.Event()

    def pass_through() -> None:
        with lock:
            passed.set()

    behind = threading.Thread(target=pass_through)
    lock.__enter__()
    # At the alarm the turn becomes the waiting one's.
    with unmeasured(), on_alarm(lambda: lock.__exit__()):
        ending = when_waiting(lock, behind.start, alarm)
        with pytest.raises(Ended), lock:
            pytest.fail("it was ended")
        ending.join(SECONDS)
        assert passed.wait(SECONDS)
        behind.join(SECONDS)
