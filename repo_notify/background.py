"""What runs beside the requests of one app, and when it begins."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from .backend.assembly import Backend
from .delivery.queue import Bus
from .events import Event
from .membership.keeping import Keeping
from .web.servers import require_patching

logger = logging.getLogger(__name__)

# How long a process's first client waits for the queue, and for the backend's exchange.
SUBSCRIBE_SECONDS = 2.0


class Background:
    """What runs beside the requests of one app: the queue's threads, and what ends rights and sessions.

    Begun by a process's first connection: a process that serves nobody has none of it, and a server may fork after the
    app was made. `serving`: whether this process has answered a request, or is about to. `stopping`: whether it ends.
    """

    def __init__(
        self,
        async_mode: str,
        bus: Bus | None,
        start: Callable[[], None],
        keeping: Keeping,
        backend: Backend | None = None,
    ) -> None:
        self.serving = self.stopping = False
        self._keeping = keeping
        self._opening = threading.Lock()
        self._opened = 0
        self._async_mode = async_mode
        self._bus = bus
        self._backend = backend
        self._start = start
        self._lock = threading.Lock()
        self._pid = 0
        self._warned = False

    def serve(self) -> None:
        """Take note that this process serves: it goes on with what the history's store has, and hears of the backend.

        Only the first call in a process does anything.
        """
        self.serving = True
        if self._opened != os.getpid():
            with self._opening:
                if self._opened != os.getpid():
                    self._keeping.open()
                    if self._backend is not None:
                        self._backend.start()
                    self._opened = os.getpid()

    def begin(self) -> None:
        """Begin, unless that was done in this process; raises `NotMonkeyPatched`."""
        if self._pid != os.getpid():
            require_patching(self._async_mode)
            self.serve()
            with self._lock:
                begun, self._pid = self._pid == os.getpid(), os.getpid()
            if not begun:
                self._start()
        if self._bus is not None:
            self._bus.start(SUBSCRIBE_SECONDS)
        if self._backend is not None:
            self._backend.start(SUBSCRIBE_SECONDS)

    def warn_unheard(self, event: Event) -> None:
        """Warn, once, of an event that is published in a process that serves nobody and has no way to who does."""
        if self._bus is not None or self._keeping.stream is not None or self._warned:
            return
        self._warned = True
        logger.warning(
            "published %s where nobody can hear it: this process serves no clients, and there is no message queue to "
            "those that do. Set REPO_NOTIFY_MESSAGE_QUEUE here and in the service, or publish over HTTP",
            type(event).__name__,
        )
