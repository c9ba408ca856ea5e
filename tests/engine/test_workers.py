"""Greenlets that are used again: nothing of one call is seen by the next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar

import gevent
import gevent.event
import pytest

from repo_notify.engine.engine_io.greenlets import MAX_IDLE, Workers

LOGGER = logging.getLogger("tests.workers")
VARIABLE = ContextVar("VARIABLE", default="nothing")


@pytest.fixture
def run() -> Callable[[Callable[[], None]], None]:
    return Workers(LOGGER).run


def test_a_greenlet_is_used_again_with_nothing_of_the_call_before(run: Callable[[Callable[[], None]], None]) -> None:
    seen = []

    def call() -> None:
        seen.append((gevent.getcurrent(), VARIABLE.get()))
        VARIABLE.set("something")

    for _ in range(3):
        run(call)
        gevent.sleep(0)
    assert seen == [(seen[0][0], "nothing")] * 3


def test_a_call_that_fails_is_logged_and_the_next_one_runs(
    run: Callable[[Callable[[], None]], None], caplog: pytest.LogCaptureFixture
) -> None:
    done = gevent.event.Event()

    def fail() -> None:
        raise RuntimeError("broken")

    run(fail)
    run(done.set)
    assert done.wait(5)
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("broken",)
    ]


def test_calls_wait_without_one_another(run: Callable[[Callable[[], None]], None]) -> None:
    told, woken = gevent.event.Event(), []

    def wait() -> None:
        assert told.wait(5)
        woken.append(gevent.getcurrent())

    for _ in range(2 * MAX_IDLE):
        run(wait)
    gevent.sleep(0)
    assert woken == []
    run(lambda: told.set())
    with gevent.Timeout(5):
        while len(woken) < 2 * MAX_IDLE:
            gevent.sleep(0)
    assert len(set(woken)) == 2 * MAX_IDLE
    gevent.sleep(0)
    # Only so many are kept.
    assert sum(not found.dead for found in woken) <= MAX_IDLE
