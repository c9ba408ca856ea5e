"""Greenlets that wait for their next call: making one for each message or connection costs more than most of those do.

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

        hub = gevent.get_hub()
        # Another process's or thread's, where the server was forked or is used by several.
        if hub is not self._hub:
            self._hub, self._idle = hub, []
        if self._idle:
            hub.loop.run_callback(self._idle.pop().switch, call)
        else:
            gevent.spawn_raw(self._work, call)

    def _work(self, call: Callable[[], None]) -> None:
        import gevent

        this, hub = gevent.getcurrent(), gevent.get_hub()
        while True:
            try:
                Context().run(call)
            except Exception:
                self._logger.exception("a call failed")
            if hub is not self._hub or len(self._idle) >= MAX_IDLE:
                return
            self._idle.append(this)
            call = hub.switch()
