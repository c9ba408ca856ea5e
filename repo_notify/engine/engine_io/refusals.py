"""What a refused request wanted: whoever counts and logs refusals asks here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from urllib.parse import parse_qs

from repo_notify.engine.wire.errors import ErrorCode, RequestError

from .origins import Environ

# `unknown_connection` is no handshake; every other one is.
Refusal = Literal[
    "origin", "protocol", "no_polling", "no_upgrade", "shutting_down", "bad_request", "unknown_connection"
]
OnRefused = Callable[[Refusal, Environ, str], None]

_OF_CODES: dict[ErrorCode, Refusal] = {
    ErrorCode.FORBIDDEN: "origin",
    ErrorCode.UNSUPPORTED_PROTOCOL_VERSION: "protocol",
    ErrorCode.UNKNOWN_SID: "unknown_connection",
}


def refusal_of(environ: Environ, error: RequestError) -> Refusal | None:
    """Return what was refused; None for a request of a connection that is open."""
    try:
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return "bad_request"
    found = _OF_CODES.get(error.code)
    if "sid" in query:
        return found if found == "unknown_connection" else None
    if found is not None:
        return found
    if error.status == 503:
        return "shutting_down"
    if error.code == ErrorCode.UNKNOWN_TRANSPORT and query.get("transport") == ["polling"]:
        return "no_polling"
    # A proxy that does not pass `Upgrade` on, or speaks HTTP/1.0.
    if query.get("transport") == ["websocket"] and "HTTP_UPGRADE" not in environ:
        return "no_upgrade"
    return "bad_request"
