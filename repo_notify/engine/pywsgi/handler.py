"""gevent-websocket, with the handshake left to the engine and with bounds on what is read.

The stock handler switches protocols before the application has seen the request, answers malformed handshakes in broken
ways, and unmasks byte by byte without a limit. Use `WebSocketHandler` as pywsgi's `handler_class`, or the worker
class of `repo_notify.gunicorn`.
"""

from __future__ import annotations

import _socket
import base64
import hashlib
from typing import Any

import gevent.socket
from gevent.pywsgi import WSGIHandler
from geventwebsocket.exceptions import ProtocolError, WebSocketError
from geventwebsocket.handler import WebSocketHandler as StockHandler
from geventwebsocket.websocket import Header, Stream, WebSocket

from repo_notify.engine.engine_io.requests import ACCEPT_WEBSOCKET, OPENED_WEBSOCKET, TAKE_SOCKET
from repo_notify.engine.wire.frames import unmask

from .http1 import HttpHandler
from .lazy_sockets import LazySocket, detached

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
            raise WebSocketError("the frame ended prefetched")
        return header, unmask(payload, header.mask)

    def take_socket(self) -> tuple[_socket.socket, bytes, bytes] | None:
        """Take the TCP socket from under this object, and what was read ahead; None where another layer is on it."""
        handler: Any = self.handler
        if not handler.on_plain_tcp():
            return None
        self.closed = True
        taken, prefetched = handler.detach()
        return taken, prefetched, b""

    def validate_utf8(self, payload: bytes) -> None:
        """Once, when the whole message is decoded; not here, frame by frame and byte by byte."""


class WebSocketHandler(HttpHandler):
    """Leaves the answer to a WebSocket handshake to the application, which may also refuse it over HTTP."""

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
        return type(handler.socket) in (LazySocket, gevent.socket.socket)

    def detach(self) -> tuple[_socket.socket, bytes]:
        """Take the socket, and what was read ahead from it; this handler then has none.

        `detach`, not `dup`: epoll would go on reporting the closed number.
        """
        handler: Any = self
        self.arriving.ended = True
        prefetched = handler.rfile.peek() + self.arriving.prefetched
        held, handler.socket = handler.socket, None
        return detached(held), prefetched

    def take_socket(self) -> tuple[_socket.socket, bytes, bytes]:
        """Take the socket; what was read ahead, and the answer 101 (RFC 6455 section 4.2.2), which goes out first.

        The engine has checked the headers.
        """
        return *self.detach(), self._switch()

    def accept(self, max_size: int) -> BoundedWebSocket:
        """Answer 101 and return the WebSocket; the engine has checked the headers."""
        handler: Any = self
        handler.socket.settimeout(self.patience)
        handler.socket.sendall(self._switch())
        self.arriving.allow(None)
        return BoundedWebSocket(handler.environ, Stream(self), self, max_size)

    def _switch(self) -> bytes:
        """The answer 101; to pywsgi it has been given."""
        handler: Any = self
        key = handler.environ["HTTP_SEC_WEBSOCKET_KEY"].strip()
        handler.status, handler.headers_sent, handler.close_connection = "101 Switching Protocols", True, True
        handler.response_use_chunked = False
        return _SWITCHING % base64.b64encode(hashlib.sha1(f"{key}{GUID}".encode(), usedforsecurity=False).digest())
