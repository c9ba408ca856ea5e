"""Greenlets that wait for their next call: making one for each message costs more than most messages do.

Since Python 3.11 a greenlet maps memory of its own when it starts, and gives it back when it ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import Context
from typing import Any

MAX_IDLE = 64


class Workers:
    """Runs calls under gevent, each in a greenlet that has no other meanwhile; at most `MAX_IDLE` are kept."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._idle: list[Any] = []
        self._hub: Any = None

    def run(self, call: Callable[[], None]) -> None:
        """Have a call run soon, in a context of its own; an exception is logged."""
        import gevent
        from greenlet import greenlet

        hub = gevent.get_hub()
        # Another process's or thread's, where the server was forked or is used by several.
        if hub is not self._hub:
            self._hub, self._idle = hub, []
        worker = self._idle.pop() if self._idle else greenlet(self._work, hub)
        hub.loop.run_callback(worker.switch, call)

    def _work(self, call: Callable[[], None]) -> None:
        from greenlet import getcurrent

        this, hub = getcurrent(), self._hub
        while True:
            try:
                Context().run(call)
            except Exception:
                self._logger.exception("a call failed")
            if hub is not self._hub or len(self._idle) >= MAX_IDLE:
                return
            self._idle.append(this)
            call = hub.switch()
