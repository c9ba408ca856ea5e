"""What is logged and how: formats of the standalone service, lines that come rarely, and states that change.

No line holds a cookie, a key or a whole id: who knows the id of a connection can send for it, so that its beginning
stands for it (`connection_label`), under which all lines about one connection are found.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

# The engine's access log.
ACCESS = "repo_notify.access"
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# How the engine and we begin a line about a connection.
_CONNECTION = re.compile(r"connection (\S+): ")
_PAUSE_SECONDS = 60.0
_LABEL_LENGTH = 8


def connection_label(connection_id: str) -> str:
    """Return what stands for a connection in the log; the engine's `Connection.label` is the same."""
    return connection_id[:_LABEL_LENGTH]


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`; `connection` and `error` where there is one.

    A record's `fields`, a mapping, are added as they are.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message = record.getMessage()
        found: dict[str, Any] = {
            "time": f"{self._utc(record)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if about := _CONNECTION.match(message):
            found["connection"] = about[1]
        found |= getattr(record, "fields", {})
        if record.exc_info:
            found["error"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=False, default=str)

    def _utc(self, record: logging.LogRecord) -> str:
        from datetime import datetime, timezone

        return datetime.fromtimestamp(record.created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


_FORMATTERS: dict[str, Callable[[], logging.Formatter]] = {
    "text": lambda: logging.Formatter(_TEXT),
    "json": JsonFormatter,
}


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:  # it takes no parameters before Python 3.11
    _StreamHandler = logging.StreamHandler


class _StandardError(_StreamHandler):
    """Writes to what `sys.stderr` is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> IO[str]:
        return sys.stderr


def configure(level: str, form: str) -> None:
    """Log on standard error: our own from `level` on, other packages' from warnings on.

    Handlers that somebody else has put up, such as gunicorn's --log-config, stay as they are, and the only ones.
    """
    root = logging.getLogger()
    ours = next((found for found in root.handlers if isinstance(found, _StandardError)), None)
    if ours is None and not root.handlers:
        ours = _StandardError()
        root.addHandler(ours)
    if ours is not None:
        ours.setFormatter(_FORMATTERS[form]())
    logging.getLogger("repo_notify").setLevel(level.upper())
    # It is on or off by a setting of its own.
    logging.getLogger(ACCESS).setLevel(logging.INFO)


class Rarely:
    """Lets one line a minute of each kind through."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, kind: str) -> bool:
        """Whether a line of that kind is due; then the next one is not for a minute."""
        now = monotonic()
        due = now - self._last.get(kind, -_PAUSE_SECONDS) >= _PAUSE_SECONDS
        if due:
            self._last[kind] = now
        return due


class Outage:
    """Something that the service needs, and whether it is there; logs when that changes, once a minute at most."""

    def __init__(self, logger: logging.Logger, back: str) -> None:
        self._logger, self._back = logger, back
        self._rarely = Rarely()
        self._told = False

    def began(self, text: str, *values: object, error: Exception | None = None) -> None:
        """Log once that it is away; with the traceback of `error`, where there is one."""
        if not self._told and self._rarely(self._back):
            self._told = True
            self._logger.warning(text, *values, exc_info=error)

    def ended(self) -> None:
        """Log that it is there again, where it was logged that it is away."""
        if self._told:
            self._told = False
            self._logger.warning(self._back)
