"""The Engine.IO server: requests in, connections out (Engine.IO protocol, "Handshake", "Upgrade", "Heartbeat").

Of python-engineio it keeps the constructor's async-driver table (`_async`), `on`/`handlers`, `generate_id`,
`create_event`, `start_background_task` and the session helpers; request handling, sockets and packets are ours.
Names used that python-engineio does not document: `_async`, `_get_socket` (overridden).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import engineio

from repo_notify.engine.wire import jsoncodec
from repo_notify.engine.wire.codec import Body, Codec
from repo_notify.engine.wire.errors import ErrorCode, ProtocolError, RequestError
from repo_notify.engine.wire.frames import Frame
from repo_notify.engine.wire.outgoing import Outgoing, control
from repo_notify.engine.wire.packets import EioPacket, EioType

from .backlog import LIMITS, Backlogs, OutboxLimits
from .connection import Connection, Environ, Reason, Timeouts
from .greenlets import Workers
from .origins import AllowedOrigins, Origins, Page, drop_credentials
from .raw_sockets import RawSockets, RawTransport
from .refusals import OnRefused, refusal_of
from .requests import (
    OPENED_WEBSOCKET,
    TAKE_SOCKET,
    Request,
    Response,
    StartResponse,
    compress,
    for_opening,
    read_body,
    settle,
    socket_timeout,
)
from .timers import Lock, Signal, Timers
from .transports import PollingTransport
from .upgrade import Task, WebSocketConnections

_NO_LOCK = contextlib.nullcontext()
TRANSPORTS = ("polling", "websocket")
UnsupportedHint = Callable[[str], str | None]
Defer = Callable[[Connection, Callable[[], None]], None]


@lru_cache(16)
def _open_packet_tail(upgrades: tuple[str, ...], timeouts: Timeouts, max_payload: int) -> str:
    """What is the same for everybody."""
    greeting = {
        "upgrades": upgrades,
        "pingInterval": round(timeouts.ping_interval * 1000),
        "pingTimeout": round(timeouts.ping_timeout * 1000),
        "maxPayload": max_payload,
    }
    return jsoncodec.dumps(greeting).removeprefix("{")


def _embeddable(script: bool) -> list[tuple[str, str]]:
    """Keep every answer out of caches, and out of foreign pages but for a script that was made for them."""
    return [
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "cross-origin" if script else "same-origin"),
    ]


class EngineServer(engineio.Server):
    """An Engine.IO server whose connections speak the codec of their handshake. Times in seconds, sizes in bytes.

    `defer(connection, call)` makes the call that tells of a connection's end, when all it has sent is handled.
    """

    def __init__(
        self, *, codecs: Iterable[Codec], logger: logging.Logger, async_mode: str | None, ping_interval: float,
        ping_timeout: float, upgrade_timeout: float, close_timeout: float, max_http_buffer_size: int,
        max_payload_packets: int, allow_upgrades: bool, http_compression: bool, compression_threshold: int,
        cors_allowed_origins: AllowedOrigins, cors_credentials: bool, cors_any_origin: bool,
        cors_any_credentials: bool, transports: Iterable[str],
        unsupported_hint: UnsupportedHint, defer: Defer, bounds: OutboxLimits, raw_sockets: bool,
        async_handlers: bool = False,
    ) -> None:
        stock: Any = super()
        stock.__init__(
            async_mode=async_mode, ping_interval=ping_interval, ping_timeout=ping_timeout,
            max_http_buffer_size=max_http_buffer_size, allow_upgrades=allow_upgrades, http_compression=http_compression,
            compression_threshold=compression_threshold, cors_credentials=cors_credentials, logger=logger,
            async_handlers=async_handlers, monitor_clients=False, transports=list(transports),
        )
        self.codecs: dict[str, Codec] = {}
        for codec in codecs:
            if str(codec.eio) in self.codecs:
                raise ValueError(f"there are two codecs for EIO={codec.eio}")
            self.codecs[str(codec.eio)] = codec
        self.timeouts = Timeouts(ping_interval, ping_timeout, upgrade_timeout, close_timeout)
        self.timers = Timers(self.run, self.new_signal(), self.new_lock(), logger)
        self.slow_clients = Counter(dict.fromkeys(LIMITS, 0))
        self.backlogs = Backlogs(bounds, self.timers, self.new_lock())
        raw = RawSockets(self.backlogs, max_http_buffer_size, logger) if raw_sockets else None
        self._websockets = WebSocketConnections(self, raw, max_http_buffer_size, logger)
        # Called with what was refused, the environ and the answer's text.
        self.on_refused: list[OnRefused] = []
        self._defer = defer
        self._workers = Workers(logger)
        self.sockets: dict[str, Connection] = {}
        self._draining: dict[str, Connection] = {}
        self._origins = Origins(
            cors_allowed_origins, credentials=cors_credentials, any_origin=cors_any_origin,
            any_credentials=cors_any_credentials,
        )
        self._max_payload_packets = max_payload_packets
        self._unsupported_hint = unsupported_hint
        self._refusing = False
        self._fallback = next(iter(self.codecs.values()))

    def new_lock(self) -> Lock:
        """A re-entrant lock of the async mode; gevent needs none where nothing within it waits."""
        return _NO_LOCK if self.async_mode == "gevent" else threading.RLock()

    def new_signal(self) -> Signal:
        """An event of the async mode."""
        stock: Any = super()
        signal: Signal = stock.create_event()
        return signal

    def new_sid(self) -> str:
        """An id that nobody has."""
        stock: Any = super()
        return str(stock.generate_id())

    def spawn(self, call: Callable[[], None]) -> Task:
        """Run a call in a task of its own: a thread or a greenlet."""
        stock: Any = super()
        task: Task = stock.start_background_task(call)
        return task

    def run(self, call: Callable[[], None]) -> None:
        """Run a call for which nobody waits."""
        if self.async_mode == "gevent":
            self._workers.run(call)
        else:
            self.spawn(call)

    def counts(self) -> Counter[tuple[int, str]]:
        """Open connections by (EIO number, transport)."""
        return Counter((connection.codec.eio, connection.transport.name) for connection in list(self.sockets.values()))

    def _get_socket(self, sid: str) -> Connection:
        """As python-engineio's: KeyError for an unknown id."""
        return self.sockets[sid]

    def send_packet(self, sid: str, pkt: Outgoing) -> None:
        """Queue a packet for a connection; nothing if it is gone."""
        connection = self.sockets.get(sid)
        if connection is not None:
            connection.send(pkt)

    def send(self, sid: str, data: Frame) -> None:
        """Queue an Engine.IO message for a connection; nothing if it is gone."""
        self.send_packet(sid, Outgoing(lambda _codec: [EioPacket(EioType.MESSAGE, data)]))

    def disconnect(self, sid: str | None = None) -> None:
        """Close one connection, or all: what is queued still leaves, and a close packet after it."""
        wanted = list(self.sockets.values()) if sid is None else [self.sockets[sid]] if sid in self.sockets else []
        for connection in wanted:
            connection.finish(Reason.SERVER_DISCONNECT)

    def shutdown(self, timeout: float = 0) -> None:
        """Refuse handshakes, close every connection so that clients reconnect, wait for their end up to `timeout` s."""
        self._refusing = True
        for connection in list(self.sockets.values()):
            # Without a close packet, as the reference server: python-socketio's clients do not come back after one.
            connection.finish(Reason.SERVER_DISCONNECT, close_packet=False)
        gone = self.new_signal()
        waited = 0.0
        while self._draining and waited < timeout:
            gone.wait(0.05)
            waited += 0.05

    # What connections tell.

    def received(self, connection: Connection, data: Frame) -> None:
        """A message of a client goes to the `message` handler."""
        self.handlers["message"](connection.sid, data)

    def closed(self, connection: Connection, reason: str) -> None:
        """A connection is over for the application."""
        if self.sockets.pop(connection.sid, None) is not None:
            self._draining[connection.sid] = connection
            self._defer(connection, lambda: self.handlers["disconnect"](connection.sid, reason))

    def drained(self, connection: Connection) -> None:
        """Nothing more will leave for it."""
        self._draining.pop(connection.sid, None)
        self.backlogs.forget(connection)

    # Requests.

    def handle_request(self, environ: Environ, start_response: StartResponse) -> Any:
        """The WSGI entry point."""
        codec = self._fallback
        request = None
        page = self._origins.judge(environ)
        try:
            request = Request.parse(environ)
            if page is Page.FOREIGN:
                raise RequestError(ErrorCode.FORBIDDEN, "Origin not allowed")
            if request.method == "OPTIONS":
                response = Response(Body(b""), status=204)
            else:
                codec = self.codecs.get(request.parameter("EIO") or "", codec)
                answered = self._route(request, page, start_response)
                if not isinstance(answered, Response):
                    return answered
                response = answered
        except RequestError as error:
            self._refused(environ, error)
            response = Response(codec.error_body(error), status=error.status)
        websocket = environ.get(OPENED_WEBSOCKET)
        if websocket is not None:
            # A foreign handler has switched protocols already: closing is all that can still be said.
            websocket.close()
            return []
        if request is not None and self.http_compression:
            compress(response, environ, self.compression_threshold)
        response.headers += self._origins.headers(page, environ)
        response.headers += _embeddable(codec.readable(request.query) if request is not None else False)
        return response.start(start_response, environ["REQUEST_METHOD"])

    def _refused(self, environ: Environ, error: RequestError) -> None:
        refusal = refusal_of(environ, error)
        if refusal is not None:
            for hook in self.on_refused:
                hook(refusal, environ, error.message)

    def _route(self, request: Request, page: Page, start_response: StartResponse) -> Any:
        transport = request.parameter("transport")
        if transport is None or transport not in self.transports:
            raise RequestError(ErrorCode.UNKNOWN_TRANSPORT)
        sid = request.parameter("sid")
        if sid is None:
            return self._handshake(request, transport, page, start_response)
        connection = self.sockets.get(sid) or self._draining.get(sid)
        if connection is None:
            raise RequestError(ErrorCode.UNKNOWN_SID)
        if request.parameter("EIO") != str(connection.codec.eio):
            raise RequestError(ErrorCode.BAD_REQUEST, "The session is of another protocol version")
        if transport == "websocket":
            return self._upgrade(connection, request, start_response)
        handle = {"GET": self._poll, "POST": self._post}.get(request.method)
        if handle is None or connection.transport.name != transport:
            raise RequestError(ErrorCode.BAD_REQUEST)
        connection.codec.check_poll(request.query)
        return handle(connection, request)

    def _handshake(self, request: Request, transport: str, page: Page, start_response: StartResponse) -> Any:
        eio = request.parameter("EIO")
        codec = self.codecs.get(eio or "")
        if codec is None:
            raise RequestError(ErrorCode.UNSUPPORTED_PROTOCOL_VERSION, self._unsupported_hint(eio or ""))
        if request.method != "GET":
            raise RequestError(ErrorCode.BAD_HANDSHAKE_METHOD)
        if transport == "websocket":
            request.check_websocket()
        if self._refusing:
            raise RequestError(ErrorCode.BAD_REQUEST, "The server is shutting down", status=503)
        codec = codec.of_session(request.query)
        if not self._origins.believes(page, readable=codec.readable(request.query)):
            drop_credentials(request.environ)
        if transport == "websocket":
            taken = self._websockets.take(codec, request.environ.get(TAKE_SOCKET))
            if taken is not None:
                return self._serve_raw(codec, request.environ, *taken)
            return self._websocket(request, start_response, lambda ws: self._serve_new(codec, request.environ, ws))
        codec.check_poll(request.query)
        polling = PollingTransport(codec, self.new_signal(), self.backlogs)
        connection = Connection(self, self.new_sid(), codec, for_opening(request.environ), polling)
        if not self._open(connection):
            raise RequestError(ErrorCode.FORBIDDEN, status=403)
        return self._poll(connection, request)

    def _open(self, connection: Connection) -> bool:
        """Register a connection, greet its client and ask the application, which may refuse it."""
        self.sockets[connection.sid] = connection
        connection.send(control(EioType.OPEN, self._open_packet(connection)))
        connection.start_heartbeat()
        try:
            accepted = self.handlers["connect"](connection.sid, connection.environ)
        except Exception:
            self.logger.exception("connection %s: the handler of new connections failed", connection.label)
            accepted = False
        settle(connection.environ)
        if accepted is not None and accepted is not True:
            connection.close(Reason.SERVER_DISCONNECT)
        return not connection.closed

    def _open_packet(self, connection: Connection) -> str:
        """The handshake's JSON (Engine.IO protocol, "Handshake")."""
        upgrades = ("websocket",) if connection.transport.name == "polling" and self._can_upgrade() else ()
        rest = _open_packet_tail(upgrades, self.timeouts, self.max_http_buffer_size)
        return f'{{"sid":{jsoncodec.dumps(connection.sid)},{rest}'

    def _can_upgrade(self) -> bool:
        return self.allow_upgrades and "websocket" in self.transports and self._async["websocket"] is not None

    # Long-polling.

    def _poll(self, connection: Connection, request: Request) -> Response:
        try:
            with connection.polling() as transport:
                packets = transport.poll()
                return Response(connection.codec.encode_payload(packets, request.query))
        except ProtocolError as error:
            raise self._broken(connection, error) from None

    def _post(self, connection: Connection, request: Request) -> Response:
        try:
            with connection.posting():
                if connection.closed:
                    raise RequestError(ErrorCode.UNKNOWN_SID)
                body = read_body(request.environ, self.max_http_buffer_size, self._patience(request.environ))
                for packet in connection.codec.decode_payload(body, request.query, self._max_payload_packets):
                    connection.receive(packet)
        except ProtocolError as error:
            raise self._broken(connection, error) from None
        except RequestError:
            connection.close(Reason.TRANSPORT_ERROR)
            raise
        return Response(connection.codec.posted(request.query))

    def _patience(self, environ: Environ) -> AbstractContextManager[Any]:
        """How long a body may take to arrive: no longer than a silent client may live."""
        limit = self.timeouts.ping_interval + self.timeouts.ping_timeout
        if self.async_mode != "gevent":
            return socket_timeout(environ.get("werkzeug.socket"), limit)
        import gevent

        timeout: AbstractContextManager[Any] = gevent.Timeout(limit, TimeoutError)
        return timeout

    def _broken(self, connection: Connection, error: ProtocolError) -> RequestError:
        self.logger.info("connection %s: %s", connection.label, error.problem)
        connection.fail(error)
        return RequestError(ErrorCode.BAD_REQUEST, error.problem)

    # WebSocket.

    def _upgrade(self, connection: Connection, request: Request, start_response: StartResponse) -> Any:
        request.check_websocket()
        if connection.closed or not self._can_upgrade():
            raise RequestError(ErrorCode.BAD_REQUEST)
        # A second one of a session that has a WebSocket is accepted, and closed at once: as the reference server does.
        return self._websocket(request, start_response, lambda ws: self._websockets.upgrade(connection, ws))

    def _websocket(self, request: Request, start_response: StartResponse, serve: Callable[[Any], None]) -> Any:
        """Switch protocols by the async mode's own driver, which calls `serve` with its WebSocket."""
        request.accept_websocket(self.max_http_buffer_size)
        # The drivers keep `run`, and a connection keeps its driver: it must not keep the connection, through `serve`.
        once = [serve]

        def run(websocket: Any) -> list[bytes]:
            once.pop()(websocket)
            return []

        return self._async["websocket"](run, self)(request.environ, start_response)

    def _serve_raw(self, codec: Codec, environ: Environ, transport: RawTransport, prefetched: bytes) -> list[bytes]:
        """A connection that needs the request no longer, and no greenlet."""
        connection = Connection(self, self.new_sid(), codec, for_opening(environ), transport)
        if self._open(connection):
            transport.start(connection, prefetched)
        return []

    def _serve_new(self, codec: Codec, environ: Environ, websocket: Any) -> None:
        transport, begin = self._websockets.transport(codec, websocket)
        connection = Connection(self, self.new_sid(), codec, for_opening(environ), transport)
        if self._open(connection):
            begin(connection)
