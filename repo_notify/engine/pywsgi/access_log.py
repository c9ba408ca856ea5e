"""The access log: one line a request, without the query, which may name a session (docs/spec.md), nor any header.

Where gunicorn serves, it gets each request in the same way, so that no format of `--access-logformat` shows more than
the headers that it names; `Cookie` and `Authorization` are not among them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from time import time
from typing import Any

logger = logging.getLogger("repo_notify.access")

_SECRET = ("cookie", "authorization")
_MAX_SHOWN = 200


def write(handler: Any) -> None:
    """Log a request that was answered, or refused, by `repo_notify.access`."""
    entry = {
        "address": _address(handler),
        "method": _shown(handler.command or "-"),
        "path": _shown(_without_query(getattr(handler, "path", None) or "-")),
        "status": _status(handler),
        "bytes": handler.response_length,
        "seconds": round(_seconds(handler), 6),
    }
    logger.info('%(address)s "%(method)s %(path)s" %(status)s %(bytes)s %(seconds)s', entry, extra={"fields": entry})


@dataclass(frozen=True)
class _Answer:
    """What gunicorn asks of an answer."""

    status: str
    headers: list[Any]
    sent: int


def tell(gunicorn: Any, handler: Any) -> None:
    """Hand a request to gunicorn's logger, unless that writes no access log."""
    if not getattr(gunicorn, "access_log_enabled", True):
        return
    environ = {"REMOTE_ADDR": _address(handler), **(handler.environ or {})}
    path = _without_query(getattr(handler, "path", None) or "-")
    environ |= {"QUERY_STRING": "", "RAW_URI": path, "PATH_INFO": environ.get("PATH_INFO", path)}
    environ.setdefault("REQUEST_METHOD", handler.command or "-")
    environ.setdefault("SERVER_PROTOCOL", handler.request_version or "-")
    environ["HTTP_REFERER"] = _without_query(environ.get("HTTP_REFERER", "-"))
    headers = [
        (key[5:].replace("_", "-").lower(), value)
        for key, value in environ.items()
        if key.startswith("HTTP_") and key[5:].lower() not in _SECRET
    ]
    answer = _Answer(_status(handler), [], handler.response_length)
    gunicorn.access(answer, headers, environ, timedelta(seconds=_seconds(handler)))


def _address(handler: Any) -> str:
    address = handler.client_address
    return str(address[0]) if isinstance(address, tuple) else "-"


def _status(handler: Any) -> str:
    # pywsgi encodes that of an answer, and nobody that of a refusal or of a WebSocket's handshake.
    status = handler.status or b"-"
    text = status.decode("latin-1") if isinstance(status, bytes) else str(status)
    return text.split(" ", 1)[0]


def _seconds(handler: Any) -> float:
    # What never became a request has no beginning.
    began = getattr(handler, "time_start", None) or handler.time_finish or time()
    return max(0.0, (handler.time_finish or time()) - began)


def _without_query(target: str) -> str:
    return target.partition("?")[0].partition("#")[0]


def _shown(text: str) -> str:
    """Return text of the client's, without what a terminal or a reader of lines would act on."""
    return ascii(text)[1:-1][:_MAX_SHOWN]
