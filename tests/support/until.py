"""Waiting for what nothing announces, such as the state of another process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

SECONDS = 30.0
PAUSE_SECONDS = 0.05


def until(check: Callable[[], bool], state: Callable[[], object] = lambda: "", seconds: float = SECONDS) -> None:
    """Ask until `check` is true; fails with `state` when it does not come true in time."""
    end = monotonic() + seconds
    pause = threading.Event()
    while not check():
        assert monotonic() < end, f"it did not come true in {seconds} s: {state()}"
        pause.wait(PAUSE_SECONDS)
