"""How late gevent's event loop is: whatever keeps it busy holds up every connection of the process."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

PERIOD_SECONDS = 0.5
WINDOW_SECONDS = 30.0


class LoopLag:
    """A timer of the loop that notes how late it is called; begun by the first question, which may come after a fork.

    So it costs nothing where nobody reads the metrics.
    """

    def __init__(self) -> None:
        self._hub: Any = None
        self._timer: Any = None
        self._due = 0.0
        self._late: deque[float] = deque(maxlen=round(WINDOW_SECONDS / PERIOD_SECONDS))

    def seconds(self) -> float:
        """Return how late it was at most within the window, in seconds."""
        import gevent

        hub = gevent.get_hub()
        if hub is not self._hub:
            self._hub = hub
            self._late.clear()
            # Without a reference: it is no reason for the loop to go on.
            self._timer = hub.loop.timer(PERIOD_SECONDS, PERIOD_SECONDS, ref=False)
            self._due = monotonic() + PERIOD_SECONDS
            self._timer.start(self._woken)
        return max(self._late, default=0.0)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _woken(self) -> None:
        now = monotonic()
        self._late.append(max(0.0, now - self._due))
        self._due = now + PERIOD_SECONDS
