"""What is refused at the door, counted and logged: a client's browser hides why, and its user sees nothing happen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any

from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics
from repo_notify.settings import Settings

from .origins import as_seen_by_proxies, own_address

logger = logging.getLogger(__name__)

MAX_SHOWN = 100
# So many polls of unknown connections within so long are nothing to tell of.
STRAYS, STRAYS_SECONDS = 5, 60.0

# By refusal: the values that disagree, and the setting to change. Where there is no line, nothing is wrong here.
_LINES = {
    "origin": "a page of %(origin)s may not connect: the service was asked as %(own)s, "
    "and REPO_NOTIFY_ALLOWED_ORIGINS is %(allowed)s. Add the page's origin there; behind proxies that end TLS or "
    "change Host set REPO_NOTIFY_TRUSTED_PROXIES (now %(proxies)s), and have them pass on X-Forwarded-Proto and "
    "X-Forwarded-Host",
    "protocol": "a client of Engine.IO %(eio)s may not connect: %(problem)s (REPO_NOTIFY_LEGACY_V4 is %(legacy)s)",
    "no_polling": "a client polls, which REPO_NOTIFY_POLLING or several workers on one port rule out: have it connect "
    "with transports: ['websocket'], or run one process for each port (docs/deploying.md)",
    "no_upgrade": "a WebSocket's handshake came without the header Upgrade (Connection: %(connection)s): the proxy in "
    "front should speak HTTP/1.1 and pass on Upgrade and Connection (docs/operating.md); until then clients poll",
    "unknown_connection": "a client polls for a connection that this process does not have: normal after a restart; "
    "if it goes on, let each client reach the same process (sticky sessions), or use WebSocket alone",
}


class Refusals:
    """Counts the refusals of one app's server, and logs each kind once a minute at most."""

    def __init__(self, metrics: Metrics, settings: Settings) -> None:
        self._metrics, self._settings = metrics, settings
        self._rarely = Rarely()
        self._strays: list[float] = []

    def __call__(self, refusal: str, environ: Mapping[str, Any], problem: str) -> None:
        """Count a refusal; `problem` is what the client is told."""
        if refusal == "unknown_connection":
            self._metrics.stray.inc()
            if not self._many_stray():
                return
        else:
            self._metrics.handshake(refusal)
        line = _LINES.get(refusal)
        if line is not None and self._rarely(refusal):
            logger.warning(line, self._values(environ, problem))

    def _many_stray(self) -> bool:
        """Whether polls go astray again and again: one may cross the end of its connection."""
        now = monotonic()
        self._strays = [*(at for at in self._strays[-STRAYS:] if now - at < STRAYS_SECONDS), now]
        return len(self._strays) > STRAYS

    def _values(self, environ: Mapping[str, Any], problem: str) -> dict[str, str]:
        query = str(environ.get("QUERY_STRING", ""))
        eio = next((part[4:] for part in query.split("&") if part.startswith("EIO=")), "")
        seen = as_seen_by_proxies(environ, self._settings.trusted_proxies)
        page = environ.get("HTTP_ORIGIN") or "another site (a script or an image, without Origin)"
        found = {
            "origin": page,
            "own": own_address(seen),
            "allowed": ", ".join(self._settings.allowed_origins) or "empty",
            "proxies": self._settings.trusted_proxies,
            "eio": eio or "unknown",
            "problem": problem,
            "legacy": str(self._settings.legacy_v4).lower(),
            "connection": environ.get("HTTP_CONNECTION", "none"),
        }
        # Written by whoever asks: no line breaks or escape sequences reach a terminal.
        return {key: ascii(str(value))[1:-1][:MAX_SHOWN] for key, value in found.items()}
