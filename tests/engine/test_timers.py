"""The engine's timers: those that were cancelled are cleared away, and nobody waits for that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import pytest

from repo_notify.engine.engine_io import timers as module
from repo_notify.engine.engine_io.timers import CALLS, FEW, GIVE_WAY_SECONDS, SLICE, TICK_PART, TICK_SECONDS, Timers
from tests.support.until import until

MANY = 5 * SLICE
LONG = 3_600.0


class CountedSignal(threading.Event):
    """Counts how often others were let run."""

    given_way = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.given_way += timeout == GIVE_WAY_SECONDS
        return super().wait(timeout)


class Kept:
    """Timers with their task, which is run by whoever asks for it."""

    def __init__(self, spawn: Callable[[Callable[[], None]], object]) -> None:
        self.signal = CountedSignal()
        self.timers = Timers(spawn, self.signal, threading.RLock(), logging.getLogger(__name__))


@pytest.fixture
def kept() -> Iterator[Kept]:
    threads: list[threading.Thread] = []

    def spawn(work: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    made = Kept(spawn)
    yield made
    for timer in chain.from_iterable(map(list, list(made.timers._ticks.values()))):
        timer.cancel()
    made.signal.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def nothing() -> None:
    """Do nothing."""


def test_the_cancelled_are_cleared_away_in_slices_and_the_others_are_called(kept: Kept) -> None:
    called: list[int] = []
    cancelled = [kept.timers.after(LONG, nothing) for _ in range(MANY)]
    moved = kept.timers.after(0.2, nothing)
    waiting = [kept.timers.after(LONG, nothing) for _ in range(SLICE)]
    for timer in cancelled:
        timer.cancel()
    kept.timers.after(0.1, lambda: called.append(1))
    kept.timers.move(moved, 0.3, lambda: called.append(2))
    until(lambda: len(kept.timers) <= len(waiting) + FEW + 2, lambda: len(kept.timers))
    assert kept.signal.given_way >= MANY // SLICE - 1
    until(lambda: called == [1, 2], lambda: called)
    assert all(timer.call is not None for timer in waiting)
    # And again: what was counted as cancelled is exact.
    for timer in waiting:
        timer.cancel()
    until(lambda: len(kept.timers) <= FEW, lambda: len(kept.timers))


def test_one_that_is_cancelled_while_they_are_cleared_away_is_not_called(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLICE", 1)
    called: list[Any] = []
    cancelled = [kept.timers.after(LONG, nothing) for _ in range(2 * FEW)]
    due = [kept.timers.after(0.05, lambda: called.append("cancelled")) for _ in range(FEW)]
    for timer in cancelled:
        timer.cancel()
    for timer in due:
        timer.cancel()
    kept.timers.after(0.1, lambda: called.append("last"))
    until(lambda: called == ["last"], lambda: called)
    until(lambda: len(kept.timers) <= FEW)


def test_many_that_were_moved_let_others_run(kept: Kept) -> None:
    called: list[int] = []
    moved = [kept.timers.after(0.2, nothing) for _ in range(MANY)]
    for timer in moved:
        assert kept.timers.move(timer, LONG, nothing) is timer
    kept.timers.after(0.3, lambda: called.append(1))
    until(lambda: called == [1], lambda: called)
    assert kept.signal.given_way >= MANY // SLICE - 1
    assert len(kept.timers) == MANY
    assert all(timer.at == timer.due for timer in moved)


def test_what_is_due_at_about_the_same_time_is_called_together(kept: Kept) -> None:
    before = time.monotonic()
    waiting = [kept.timers.after(25, nothing) for _ in range(200)]
    after = time.monotonic()
    assert after - before < TICK_SECONDS
    assert len({timer.due for timer in waiting}) <= 2
    assert all(before + 25 <= timer.due <= after + 25 + TICK_SECONDS for timer in waiting)


def test_what_is_due_soon_is_hardly_late(kept: Kept) -> None:
    before = time.monotonic()
    due = kept.timers.after(0.1, nothing).due
    assert before + 0.1 <= due <= time.monotonic() + 0.1 + 0.1 * TICK_PART
    assert kept.timers.after(0, nothing).due <= time.monotonic()


def test_many_calls_that_are_due_together_let_others_run(kept: Kept) -> None:
    called: list[int] = []

    def call_many() -> None:
        for number in range(1_000):
            kept.timers.after(0, partial(called.append, number))

    kept.timers.after(0.1, call_many)
    until(lambda: len(called) == 1_000, lambda: called)
    assert kept.signal.given_way >= 1_000 // CALLS - 1
