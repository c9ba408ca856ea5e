"""HTTP/1.1 on gevent's pywsgi, to the letter of RFC 9112, and with a limit on everything that is waited for.

pywsgi parses leniently, answers HEAD with a body, does not say when it closes, discards bodies of any length, and waits
without end for bodies, trailers, and for clients that do not read their answers.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import socket
from collections.abc import Iterator
from http import HTTPStatus
from time import time
from typing import Any, ClassVar

from geventwebsocket.handler import WebSocketHandler as StockHandler

from . import access_log
from .bodies import NO_BODY, PACE_BYTES, Arriving, RequestBody
from .headers import BadRequest, Headers, RequestHead, body_length, check_host, environ_key, request_line, words_of
from .lazy_sockets import LazySocket

logger = logging.getLogger(__name__)

# pywsgi answers 414 to a line that is as long.
MAX_LINE_BYTES = 8_192
# So much of a body that nobody read is read on, for the sake of the connection; with more of it that is closed.
MAX_UNREAD_BYTES = 8_192
# How long a closing connection takes what was under way: closed at once, the kernel would take the answer back.
LINGER_SECONDS = 2.0
LINGER_BYTES = 1_048_576
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_OF_THE_CONNECTION = (b"connection", b"keep-alive")
_EMPTY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class HttpHandler(StockHandler):
    """Serves requests of at most `max_header_bytes` before their bodies.

    A request has to come within `patience` seconds, and so has each `PACE_BYTES` of its body; the answer is given up
    where the client does not take as much of it within that time.
    """

    patience: ClassVar[float] = 75.0
    max_header_bytes: ClassVar[int] = 16_384
    access_log: ClassVar[bool] = False

    def __init__(self, sock: Any, address: Any, server: Any) -> None:
        stock: Any = super()
        self.arriving = Arriving(sock, sock.take_prefetched() if type(sock) is LazySocket else b"")
        self._body = NO_BODY
        stock.__init__(sock, address, server, io.BufferedReader(self.arriving))

    # What is read.

    def await_request(self) -> bytes:
        """Wait for a request, and return what has come of it; nothing where none will come."""
        handler: Any = self
        self.arriving.allow(self.patience)
        found: bytes = handler.rfile.peek()
        return found

    def read_requestline(self) -> str:
        """The first line; one empty line before it is let pass (RFC 9112 section 2.2)."""
        handler: Any = self
        line = handler.rfile.readline(MAX_LINE_BYTES)
        if line == b"\r\n":
            line = handler.rfile.readline(MAX_LINE_BYTES)
        return str(line, "latin-1")

    def read_request(self, raw_requestline: str) -> Any:
        """Read the header section; BadRequest for what is no request of HTTP/1.1 or 1.0."""
        handler: Any = self
        handler.command = ""
        handler.requestline = raw_requestline.rstrip()
        handler.command, handler.path, version = request_line(raw_requestline)
        headers = handler.headers = Headers(handler.rfile, self.max_header_bytes - len(raw_requestline))
        check_host(headers, version)
        length = body_length(headers, version)
        if length != 0 and handler.command == "HEAD":
            raise BadRequest("A HEAD request has a body")
        words = words_of(",".join(headers.all("connection")))
        handler.request_version = version
        handler.close_connection = "close" in words or (version == "HTTP/1.0" and "keep-alive" not in words)
        handler.content_length = length
        if length != 0:
            expects = (headers.get("expect") or "").lower() == "100-continue" and version == "HTTP/1.1"
            self._body = RequestBody(handler.rfile, length, self._proceed_call() if expects else None)
            self.arriving.allow(self.patience, paced=True)
        return True

    def _proceed_call(self) -> Any:
        # Of the socket, not of this handler: the body is in the environ, which the handler keeps.
        handler: Any = self
        held, patience = handler.socket, self.patience

        def proceed() -> None:
            held.settimeout(patience)
            held.sendall(_CONTINUE)

        return proceed

    def _headers(self) -> Iterator[tuple[str, str]]:
        """The headers as the environ has them; none with an underscore, as in pywsgi."""
        handler: Any = self
        for name, value in handler.headers.fields:
            key = environ_key(name)
            if key is not None and key.startswith("HTTP_"):
                yield key, value

    def get_environ(self) -> dict[str, Any]:
        """As pywsgi's, with a body that is read strictly."""
        stock: Any = super()
        environ: dict[str, Any] = stock.get_environ()
        self._give_body(environ)
        return environ

    def _give_body(self, environ: dict[str, Any]) -> None:
        handler: Any = self
        handler.wsgi_input = self
        environ["wsgi.input"] = io.BytesIO() if self._body is NO_BODY else io.BufferedReader(self._body)
        environ["wsgi.input_terminated"] = True

    def _discard(self) -> None:
        """What pywsgi calls behind an answer, whatever it was; see `_can_go_on`."""

    # One request.

    def handle_one_request(self) -> Any:
        """Serve a request; None where it is the connection's last."""
        handler: Any = self
        self._body = NO_BODY
        outcome = self._serve()
        handler.wsgi_input = None
        if outcome is True and self._can_go_on():
            return True
        refused = isinstance(outcome, tuple)
        if refused:
            self._refuse(*outcome)
        if handler.socket is not None and (refused or not self._body.complete) and not self.arriving.timed_out:
            self._linger()
        return None

    def _serve(self) -> Any:
        """As pywsgi's; a head that has come in one piece is not read line by line."""
        handler: Any = self
        try:
            arrived = self.await_request()
        except OSError:
            return None
        if not arrived:
            return None
        head = RequestHead.parse(arrived, self.max_header_bytes)
        if head is None:
            stock: Any = super()
            return stock.handle_one_request()
        self._take(head)
        handler.application = handler.server.application
        handler.handle_one_response()
        return None if handler.close_connection or handler.rfile.closed else True

    def _take(self, head: RequestHead) -> None:
        """Have this handler as reading the request's head line by line leaves it."""
        handler: Any = self
        handler.rfile.read(head.size)
        handler.command, handler.path, handler.request_version = head.method, head.target, "HTTP/1.1"
        handler.requestline = f"{head.method} {head.target} HTTP/1.1"
        handler.close_connection = "close" in words_of(head.environ.get("HTTP_CONNECTION", ""))
        handler.content_length = head.length
        environ = handler.environ = handler.server.get_environ()
        environ.update(head.environ)
        if isinstance(handler.client_address, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = map(str, handler.client_address[:2])
        if head.length:
            self._body = RequestBody(handler.rfile, head.length)
            self.arriving.allow(self.patience, paced=True)
        self._give_body(environ)

    def _can_go_on(self) -> bool:
        """Whether the next request can be read: little of the last one's body is left, and comes."""
        body = self._body
        if body.complete:
            return True
        if body.left_over(MAX_UNREAD_BYTES):
            return False
        self.arriving.allow(self.patience)
        with contextlib.suppress(OSError):
            while body.readinto(bytearray(MAX_UNREAD_BYTES)):
                pass
        return body.complete

    def _handle_client_error(self, error: Exception) -> tuple[HTTPStatus, str] | None:
        """What `_refuse` is to answer; None where nobody is there any more."""
        if isinstance(error, BadRequest):
            return error.status, error.problem
        if isinstance(error, TimeoutError):
            return HTTPStatus.BAD_REQUEST, "The request did not arrive in time"
        if isinstance(error, OSError):
            return None
        logger.error("a request could not be read", exc_info=error)
        return HTTPStatus.BAD_REQUEST, "The request could not be read"

    def _refuse(self, status: HTTPStatus | str, problem: str | bytes) -> None:
        """Answer what never became a request; pywsgi's own refusals are whole answers."""
        handler: Any = self
        answer = problem
        if isinstance(status, HTTPStatus) and isinstance(answer, str):
            logger.info("a request was refused: %s", problem)
            answer = (
                f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                f"Content-Length: {len(answer)}\r\n\r\n{'' if handler.command == 'HEAD' else answer}"
            ).encode()
        handler.status, handler.code, handler.time_finish = str(int(status)), int(status), time()
        # It may be that of the request before.
        handler.environ = None
        with contextlib.suppress(OSError):
            self._sendall(answer)
        handler.log_request()

    def _linger(self) -> None:
        """Say that nothing more will be said, and take for a little while what the client is still sending."""
        handler: Any = self
        left = LINGER_BYTES
        self.arriving.allow(min(LINGER_SECONDS, self.patience))
        with contextlib.suppress(OSError):
            handler.socket.shutdown(socket.SHUT_WR)
            while left > 0 and (data := handler.rfile.read1(PACE_BYTES)):
                left -= len(data)

    # What is written.

    def finalize_headers(self) -> None:
        """As pywsgi's; an answer says whether it is the last, and to HEAD no length that nobody knows."""
        handler: Any = self
        stock: Any = super()
        if handler.code == HTTPStatus.SWITCHING_PROTOCOLS:
            stock.finalize_headers()
            return
        if handler.command == "HEAD" and handler.provided_content_length is None:
            # An application may leave the body away, so that its length would be said to be nothing.
            handler.provided_content_length = False
        stock.finalize_headers()
        headers = [field for field in handler.response_headers if field[0].lower() not in _OF_THE_CONNECTION]
        delimited = handler.response_use_chunked or handler.command == "HEAD" or handler.code in _EMPTY
        if (
            self._body.left_over(MAX_UNREAD_BYTES)
            or not (delimited or any(name.lower() == b"content-length" for name, _ in headers))
            or getattr(handler.server, "closed", False)
        ):
            handler.close_connection = True
        if handler.close_connection:
            headers.append((b"Connection", b"close"))
        elif handler.request_version == "HTTP/1.0":
            headers.append((b"Connection", b"keep-alive"))
        handler.response_headers = headers

    def log_request(self) -> None:
        """Log a request without its query: by gunicorn's access log, or by our own where `access_log` is on."""
        handler: Any = self
        gunicorn = handler.server.log
        if hasattr(gunicorn, "access"):
            access_log.tell(gunicorn, handler)
        elif self.access_log:
            access_log.write(handler)

    def _write_with_headers(self, data: bytes) -> None:
        """Begin the answer: headers and what is there of the body in one go, for one packet where that is little."""
        handler: Any = self
        handler.finalize_headers()
        # gevent-websocket writes a text that is empty.
        if not data or handler.command == "HEAD":
            data = b""
        elif handler.response_use_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        fields = (b"%b: %b" % field for field in handler.response_headers)
        answer = b"\r\n".join((b"HTTP/1.1 " + handler.status, *fields, b"", data))
        handler.headers_sent = True
        self._sendall(answer)

    def _write(self, data: bytes) -> None:
        handler: Any = self
        stock: Any = super()
        if handler.command != "HEAD":
            stock._write(data)

    def _sendall(self, data: Any) -> None:
        """Send all of it, as long as the client takes `PACE_BYTES` within the server's patience."""
        handler: Any = self
        stock: Any = super()
        with memoryview(data) as view:
            for start in range(0, len(view), PACE_BYTES):
                handler.socket.settimeout(self.patience)
                try:
                    stock._sendall(view[start : start + PACE_BYTES])
                except OSError as error:
                    # For pywsgi a client that went, which is nothing to report.
                    raise BrokenPipeError(errno.EPIPE, "the client does not take the answer") from error

    def handle_error(self, kind: Any, error: Any, trace: Any) -> None:
        """As pywsgi's; an application that let the body's error pass has not failed itself."""
        handler: Any = self
        stock: Any = super()
        if not (self._body.failed and isinstance(error, OSError)):
            stock.handle_error(kind, error, trace)
            return
        handler.close_connection = True
        if not handler.response_length:
            status = HTTPStatus.REQUEST_TIMEOUT if self.arriving.timed_out else HTTPStatus.BAD_REQUEST
            with contextlib.suppress(OSError):
                handler.start_response(f"{int(status)} {status.phrase}", [("Content-Length", "0")])
                handler.write(b"")
