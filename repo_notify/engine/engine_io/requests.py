"""The HTTP side of the wire: what a request asks, its body, and the answer."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from repo_notify.engine.wire.codec import Body
from repo_notify.engine.wire.errors import ErrorCode, RequestError
from repo_notify.engine.wire.remembered import remembered

from .origins import NO_CREDENTIALS, Environ

StartResponse = Callable[[str, list[tuple[str, str]]], Any]

_NO_INPUT = io.BytesIO()
# A handler that leaves the upgrade to us puts this function into the environ: it answers 101, returns the WebSocket.
ACCEPT_WEBSOCKET = "repo_notify.accept_websocket"
TAKE_SOCKET = "repo_notify.take_socket"
OPENED_WEBSOCKET = "wsgi.websocket"
_CHUNK = 65_536
MAX_PARAMETERS = 50


# Handshakes ask for the same, and are short; longer ones name a session, and come once.
_USUAL_LENGTH = 48


@remembered(_USUAL_LENGTH, 128)
def _query(text: str) -> Mapping[str, Sequence[str]]:
    return parse_qs(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)


@dataclass(frozen=True)
class Request:
    """One HTTP request to the engine's path. Absent parameters are None."""

    environ: Environ
    query: Mapping[str, Sequence[str]]

    @classmethod
    def parse(cls, environ: Environ) -> Request:
        """The request of a WSGI environ; RequestError when the query string cannot be read."""
        text = environ.get("QUERY_STRING", "")
        try:
            return cls(environ, _query(text))
        except ValueError:
            problem = f"The query string has more than {MAX_PARAMETERS} parameters"
            raise RequestError(ErrorCode.BAD_REQUEST, problem) from None

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.environ["REQUEST_METHOD"])

    def parameter(self, name: str) -> str | None:
        """A query parameter that may be there once; RequestError when it is there more often."""
        values = self.query.get(name, ())
        if len(values) > 1:
            raise RequestError(ErrorCode.BAD_REQUEST, f"{name} is given more than once")
        return values[0] if values else None

    def check_websocket(self) -> None:
        """RequestError unless this is a WebSocket's opening handshake (RFC 6455 section 4.2.1) on a server that can."""
        environ = self.environ
        if any(environ.get(key) is not None for key in (OPENED_WEBSOCKET, ACCEPT_WEBSOCKET)):
            able = True
        else:
            # What simple-websocket looks for under the threading servers.
            able = any(key in environ for key in ("werkzeug.socket", "gunicorn.socket", "eventlet.input"))
        tokens = {token.strip().lower() for token in environ.get("HTTP_CONNECTION", "").split(",")}
        good = (
            environ.get("HTTP_UPGRADE", "").lower() == "websocket"
            and "upgrade" in tokens
            and environ.get("HTTP_SEC_WEBSOCKET_VERSION") == "13"
            and _is_websocket_key(environ.get("HTTP_SEC_WEBSOCKET_KEY", ""))
        )
        if not able or not good:
            raise RequestError(ErrorCode.BAD_REQUEST, "Not a WebSocket opening handshake")

    def accept_websocket(self, max_size: int) -> None:
        """Have the handshake answered where that is still due; messages above `max_size` bytes end the WebSocket."""
        accept = self.environ.get(ACCEPT_WEBSOCKET)
        if accept is not None:
            self.environ[OPENED_WEBSOCKET] = accept(max_size)


def _is_websocket_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key.strip(), validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


@dataclass
class Response:
    """An HTTP answer in the making."""

    body: Body
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)

    def start(self, start_response: StartResponse, method: str) -> list[bytes]:
        """Begin the answer to a request of that method; returns the body as WSGI wants it, none for HEAD."""
        headers = list(self.headers)
        if self.status != HTTPStatus.NO_CONTENT:
            headers += [("Content-Type", self.body.content_type), ("Content-Length", str(len(self.body.data)))]
        start_response(f"{self.status} {HTTPStatus(self.status).phrase}", headers)
        return [self.body.data] if self.body.data and method != "HEAD" else []


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=6, mtime=0)


_COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {"gzip": _gzip, "deflate": zlib.compress}


def compress(response: Response, environ: Environ, threshold: int) -> None:
    """Compress a body of at least `threshold` bytes, in place, where the client accepts it."""
    if len(response.body.data) < threshold:
        return
    for accepted in environ.get("HTTP_ACCEPT_ENCODING", "").split(","):
        name, _, parameters = accepted.partition(";")
        encode = _COMPRESSIONS.get(name.strip().lower())
        if encode is not None and parameters.replace(" ", "") not in {"q=0", "q=0.0"}:
            response.body = Body(encode(response.body.data), response.body.content_type)
            response.headers.append(("Content-Encoding", name.strip().lower()))
            response.headers.append(("Vary", "Accept-Encoding"))
            return


# What an identity loader may ask for as long as the connection lives, and a request context needs.
_KEPT = frozenset(
    {
        "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL",
        "REMOTE_ADDR", "REMOTE_PORT", "REMOTE_USER", "wsgi.url_scheme", "flask.app", NO_CREDENTIALS,
        "HTTP_COOKIE", "HTTP_HOST", "HTTP_ORIGIN", "HTTP_USER_AGENT", "HTTP_AUTHORIZATION",
    }
)
# Most connections share these; what only one has would displace them.
_SHARED = frozenset({"REQUEST_METHOD", "PATH_INFO", "SERVER_PROTOCOL", "HTTP_HOST", "HTTP_ORIGIN", "HTTP_USER_AGENT"})
_SHARED_LENGTH = 160


@remembered(_SHARED_LENGTH, 64)
def _once(value: str) -> str:
    """The value, kept once for the connections that share it."""
    return value


def for_opening(environ: Environ) -> Environ:
    """A handshake's environ for those who decide about it: without streams, and without the server's objects."""
    found = {key: value for key, value in environ.items() if key in _KEPT or key.startswith("HTTP_")}
    found["wsgi.input"] = _NO_INPUT
    return found


def settle(environ: Environ) -> None:
    """Reduce the environ of a connection that is open, in place, to what is kept for its life."""
    kept = {key: environ[key] for key in _KEPT if key in environ}
    for key in _SHARED & kept.keys():
        kept[key] = _once(kept[key])
    kept["wsgi.input"] = _NO_INPUT
    # Emptied first: a dict that only loses keys keeps its size.
    environ.clear()
    environ.update(kept)


@contextmanager
def socket_timeout(held: Any, seconds: float) -> Iterator[None]:
    """Let reading from a socket raise TimeoutError after so long a pause; None where the server shows none."""
    if held is None:
        yield
        return
    before = held.gettimeout()
    held.settimeout(seconds)
    try:
        yield
    finally:
        held.settimeout(before)


def read_body(environ: Environ, limit: int, patience: AbstractContextManager[Any]) -> Body:
    """The request's body. RequestError: 413 above `limit` bytes, if possible before reading; 400 for a wrong length.

    `patience` is entered around the reading and may end it with a TimeoutError.
    """
    length = environ.get("CONTENT_LENGTH") or ""
    source = environ["wsgi.input"]
    if length:
        if not (length.isascii() and length.isdigit()):
            raise RequestError(ErrorCode.BAD_REQUEST, "Content-Length is no length")
        if len(length) > 18 or int(length) > limit:
            raise RequestError(ErrorCode.BAD_REQUEST, "Payload too large", status=413)
        due = int(length)
    elif environ.get("wsgi.input_terminated"):
        due = None
    else:
        due = 0
    try:
        with patience:
            data = b"".join(_chunks(source, limit if due is None else due))
            overflow = due is None and len(data) == limit and bool(source.read(1))
    except TimeoutError:
        raise RequestError(ErrorCode.BAD_REQUEST, "The body did not arrive in time", status=408) from None
    except OSError:
        raise RequestError(ErrorCode.BAD_REQUEST, "The body ended early") from None
    if overflow:
        raise RequestError(ErrorCode.BAD_REQUEST, "Payload too large", status=413)
    if due is not None and len(data) != due:
        raise RequestError(ErrorCode.BAD_REQUEST, "The body ended early")
    return Body(data, environ.get("CONTENT_TYPE", ""))


def _chunks(source: Any, most: int) -> Iterable[bytes]:
    while most > 0 and (chunk := source.read(min(most, _CHUNK))):
        most -= len(chunk)
        yield chunk
