"""gevent-websocket, with the handshake left to the engine and with bounds on what is read.

The stock handler switches protocols before the application has seen the request, answers malformed handshakes in broken
ways, and unmasks byte by byte without a limit. Use `WebSocketHandler` as pywsgi's `handler_class`, or the worker
class of `engine.gunicorn`.
"""

from __future__ import annotations

import _socket
import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gevent
import gevent.socket
from gevent.pywsgi import Input, WSGIHandler
from geventwebsocket.exceptions import ProtocolError, WebSocketError
from geventwebsocket.handler import WebSocketHandler as StockHandler
from geventwebsocket.websocket import Header, Stream, WebSocket

from repo_notify.engine.engine_io.requests import ACCEPT_WEBSOCKET, OPENED_WEBSOCKET, TAKE_SOCKET
from repo_notify.engine.wire.frames import unmask

from .headers import Headers, OpeningHandshake, environ_key
from .lazy_sockets import Arrival, detached

TOO_BIG = 1009
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)


class _Nobody:
    """Who is told of a WebSocket's end."""

    def on_close(self, *_: object) -> None:
        """Nothing is to be done."""


class BoundedWebSocket(WebSocket):
    """A server's end of a WebSocket that refuses by the header, before reading (RFC 6455 sections 5.1, 7.4.1)."""

    __slots__ = ("max_size", "size")

    def __init__(self, environ: dict[str, Any], stream: Stream, handler: StockHandler, max_size: int) -> None:
        stock: Any = super()
        stock.__init__(environ, stream, handler)
        self.max_size = max_size
        self.size = 0

    @property
    def current_app(self) -> _Nobody:
        """gevent-websocket's makes a class for each WebSocket that ends."""
        return _Nobody()

    def read_frame(self) -> tuple[Header, bytes]:
        """One frame, unmasked; gevent-websocket's errors for what the RFC forbids, which close the WebSocket."""
        # Both become None when another greenlet closes the WebSocket while this one waits.
        stream, raw_read = self.stream, self.raw_read
        if stream is None or raw_read is None:
            raise WebSocketError("closed while it was read")
        header = Header.decode_header(stream)
        if header.flags or not header.mask:
            raise ProtocolError("reserved bits, or a client's frame without a mask")
        if header.opcode in (self.OPCODE_TEXT, self.OPCODE_BINARY):
            self.size = 0
        if header.opcode < self.OPCODE_CLOSE:
            self.size += header.length
        if self.size > self.max_size:
            stock: Any = self
            stock.close(TOO_BIG)
            raise WebSocketError("message too big")
        payload = raw_read(header.length) if header.length else b""
        if len(payload) != header.length:
            raise WebSocketError("the frame ended early")
        return header, unmask(payload, header.mask)

    def take_socket(self) -> tuple[_socket.socket, bytes, bytes] | None:
        """Take the TCP socket from under this object, and what was read ahead; None where another layer is on it."""
        handler: Any = self.handler
        if not handler.on_plain_tcp():
            return None
        self.closed = True
        taken, early = handler.detach()
        return taken, early, b""

    def validate_utf8(self, payload: bytes) -> None:
        """Once, when the whole message is decoded; not here, frame by frame and byte by byte."""


class _Arriving(io.RawIOBase):
    """What arrives on a socket: as its `makefile`, with fewer steps, and with an end to reading.

    `early` was read before.
    """

    def __init__(self, source: Any, early: bytes) -> None:
        self._source = source
        self.early = early
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.early:
            given = self.early[: len(buffer)]
            buffer[: len(given)] = given
            self.early = self.early[len(given) :]
            return len(given)
        return None if self.ended else self._source.recv_into(buffer)


class WebSocketHandler(StockHandler):
    """Leaves the answer to a WebSocket handshake to the application, which may also refuse it over HTTP.

    Who sends no request for `patience` seconds, its headers included, is not waited for.
    """

    patience: ClassVar[float] = 75.0

    def __init__(self, sock: Any, address: Any, server: Any) -> None:
        stock: Any = super()
        early = sock.take_early() if type(sock) is Arrival else b""
        self._handshake = OpeningHandshake.parse(early) if early else None
        self._arriving = _Arriving(sock, early if self._handshake is None else self._handshake.rest)
        stock.__init__(sock, address, server, io.BufferedReader(self._arriving))

    def handle_one_request(self) -> Any:
        """As pywsgi's; a handshake that has come in one piece is not read again."""
        handler: Any = self
        stock: Any = super()
        handshake, self._handshake = self._handshake, None
        if handshake is None:
            return stock.handle_one_request()
        handler.command, handler.path, handler.request_version = "GET", handshake.target, "HTTP/1.1"
        handler.requestline = f"GET {handshake.target} HTTP/1.1"
        handler.close_connection = handshake.environ.get("HTTP_CONNECTION", "").lower() == "close"
        handler.wsgi_input = Input(handler.rfile, None)
        environ = handler.environ = handler.server.get_environ()
        environ.update(handshake.environ)
        if isinstance(handler.client_address, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = map(str, handler.client_address[:2])
        environ["wsgi.input"], environ["wsgi.input_terminated"] = handler.rfile, False
        handler.application = handler.server.application
        handler.handle_one_response()
        return None if handler.close_connection or handler.rfile.closed else True

    def MessageClass(self, *args: Any) -> Any:  # noqa: N802 - pywsgi's name
        """The headers of the request whose stream comes first; where they are broken pywsgi answers 400."""
        return Headers(args[0])

    def _headers(self) -> Iterator[tuple[str, str]]:
        """The headers as the environ has them; pywsgi's parses them again. None with an underscore, as in pywsgi."""
        handler: Any = self
        for name, value in handler.headers.fields:
            key = environ_key(name)
            if key is not None and key.startswith("HTTP_"):
                yield key, value

    def read_requestline(self) -> Any:
        """The request's first line; "", which ends the connection, where none comes in time."""
        stock: Any = super()
        self._limit = gevent.Timeout.start_new(self.patience)
        line = ""
        try:
            line = self._in_time("", stock.read_requestline)
        finally:
            # No headers will be read: left running, it would go off in a connection that has ended.
            if not line.endswith("\n"):
                self._limit.close()
        return line

    def read_request(self, raw_requestline: str) -> Any:
        """Read the headers; False, which is answered with 400, where they do not come in time."""
        stock: Any = super()
        try:
            return self._in_time(False, stock.read_request, raw_requestline)
        finally:
            self._limit.close()

    def _in_time(self, otherwise: Any, read: Callable[..., Any], *arguments: object) -> Any:
        try:
            return read(*arguments)
        except gevent.Timeout as ended:
            if ended is not self._limit:
                raise
            return otherwise

    def run_application(self) -> None:
        """Run the application as for any other request, with a function in the environ that switches protocols."""
        environ: Any = self.environ
        if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            environ[ACCEPT_WEBSOCKET] = self.accept
            if self.on_plain_tcp():
                environ[TAKE_SOCKET] = self.take_socket
        try:
            WSGIHandler.run_application(self)
        finally:
            # Handler and environ would keep one another until the garbage collector comes.
            for key in (ACCEPT_WEBSOCKET, TAKE_SOCKET, OPENED_WEBSOCKET):
                environ.pop(key, None)

    def on_plain_tcp(self) -> bool:
        """Whether the connection's socket is TCP's own, not TLS's or another server's."""
        handler: Any = self
        return type(handler.socket) in (Arrival, gevent.socket.socket)

    def detach(self) -> tuple[_socket.socket, bytes]:
        """Take the socket, and what was read ahead from it; this handler then has none.

        `detach`, not `dup`: epoll would go on reporting the closed number.
        """
        handler: Any = self
        self._arriving.ended = True
        early = handler.rfile.peek() + self._arriving.early
        held, handler.socket = handler.socket, None
        return detached(held), early

    def take_socket(self) -> tuple[_socket.socket, bytes, bytes]:
        """Take the socket; what was read ahead, and the answer 101 (RFC 6455 section 4.2.2), which goes out first.

        The engine has checked the headers.
        """
        return *self.detach(), self._switch()

    def accept(self, max_size: int) -> BoundedWebSocket:
        """Answer 101 and return the WebSocket; the engine has checked the headers."""
        handler: Any = self
        handler.socket.sendall(self._switch())
        return BoundedWebSocket(handler.environ, Stream(self), self, max_size)

    def _switch(self) -> bytes:
        """The answer 101; to pywsgi it has been given."""
        handler: Any = self
        key = handler.environ["HTTP_SEC_WEBSOCKET_KEY"].strip()
        handler.status, handler.headers_sent, handler.close_connection = "101 Switching Protocols", True, True
        handler.response_use_chunked = False
        return _SWITCHING % base64.b64encode(hashlib.sha1(f"{key}{GUID}".encode(), usedforsecurity=False).digest())
