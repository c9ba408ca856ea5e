"""The Engine.IO server: requests in, connections out (Engine.IO protocol, "Handshake", "Upgrade", "Heartbeat").

Of python-engineio it keeps the constructor's async-driver table (`_async`), `on`/`handlers`, `generate_id`,
`create_event`, `start_background_task` and the session helpers; request handling, sockets and packets are ours.
Names used that python-engineio does not document: `_async`, `_get_socket` (overridden).
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from time import monotonic
from typing import Any

import engineio

from repo_notify.engine.wire import jsoncodec
from repo_notify.engine.wire.codec import Body, Codec, EngineIO4
from repo_notify.engine.wire.errors import ErrorCode, ProtocolError, RequestError
from repo_notify.engine.wire.frames import Frame
from repo_notify.engine.wire.outgoing import Outgoing, control
from repo_notify.engine.wire.packets import EioPacket, EioType

from .backlog import LIMITS, Backlogs
from .connection import Connection, Environ, Reason
from .greenlets import Workers
from .options import Options
from .origins import Origins, Page, drop_credentials
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

# Connections that are due within such a time are closed together.
DRAIN_PAUSE_SECONDS = 0.02
_NO_LOCK = contextlib.nullcontext()
Ended = Callable[[Connection, str], None]


@lru_cache(16)
def _open_packet_tail(upgrades: tuple[str, ...], ping_interval: float, ping_timeout: float, max_payload: int) -> str:
    """What is the same for everybody."""
    greeting = {
        "upgrades": upgrades,
        "pingInterval": round(ping_interval * 1000),
        "pingTimeout": round(ping_timeout * 1000),
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
    """An Engine.IO server whose connections speak the codec of their handshake.

    Messages go to the connection's `listener`; `ended(connection, reason)` is told of its end.
    """

    def __init__(self, *, options: Options, ended: Ended, async_handlers: bool = False) -> None:
        logger = options.logger
        stock: Any = super()
        stock.__init__(
            async_mode=options.async_mode, async_handlers=async_handlers, logger=logger, monitor_clients=False,
            transports=list(options.transports),
            # What the drivers of WebSockets read.
            max_http_buffer_size=options.max_message_bytes, ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
        )
        self.options = options
        self.codecs: dict[str, Codec] = {str(codec.eio): codec for codec in (EngineIO4(), *options.codecs)}
        # Runs a call for which nobody waits.
        self.run: Callable[[Callable[[], None]], object] = (
            Workers(logger).run if self.async_mode == "gevent" else self.spawn
        )
        self.timers = Timers(self.run, self.new_signal(), self.new_lock(), logger)
        self.slow_clients = Counter(dict.fromkeys(LIMITS, 0))
        self.ping = control(EioType.PING)
        self.backlogs = Backlogs(options.outbox, self.timers, self.new_lock())
        raw = RawSockets(self.backlogs, options.max_message_bytes, logger) if options.raw_sockets else None
        self._websockets = WebSocketConnections(self, raw, options.max_message_bytes, logger)
        self._ended = ended
        # Called with what was refused, the environ and the answer's text.
        self.on_refused: list[OnRefused] = []
        self.sockets: dict[str, Connection] = {}
        self._draining: dict[str, Connection] = {}
        self._origins = Origins(
            options.allowed_origins, any_origin=options.any_origin, any_credentials=options.any_origin_credentials,
            null_origin=options.null_origin, credentials=options.cors_credentials,
        )
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
        self.send_packet(sid, Outgoing(EioPacket(EioType.MESSAGE, data)))

    def disconnect(self, sid: str | None = None) -> None:
        """Close one connection, or all: what is queued still leaves, and a close packet after it."""
        wanted = list(self.sockets.values()) if sid is None else [self.sockets[sid]] if sid in self.sockets else []
        for connection in wanted:
            connection.finish(Reason.SERVER_DISCONNECT)

    def shutdown(self, timeout: float = 0, *, per_second: float = math.inf) -> None:
        """Refuse handshakes, close every connection so that clients reconnect, wait for their end up to `timeout` s.

        Of the connections so many are closed `per_second`: whoever takes them over is not overrun.
        """
        self._refusing = True
        gone = self.new_signal()
        started = monotonic()
        for number, connection in enumerate(list(self.sockets.values())):
            early = number / per_second - (monotonic() - started)
            if early > DRAIN_PAUSE_SECONDS:
                gone.wait(early)
            # Without a close packet, as the reference server: python-socketio's clients do not come back after one.
            connection.finish(Reason.SERVER_DISCONNECT, close_packet=False)
        waited = 0.0
        while self._draining and waited < timeout:
            gone.wait(0.05)
            waited += 0.05

    # What connections tell.

    def closed(self, connection: Connection, reason: str) -> None:
        """A connection is over for the application."""
        if self.sockets.pop(connection.sid, None) is not None:
            self._draining[connection.sid] = connection
            self._ended(connection, reason)

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
        if request is not None and self.options.http_compression:
            compress(response, environ, self.options.compression_threshold)
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
        if transport is None or transport not in self.options.transports:
            raise RequestError(ErrorCode.UNKNOWN_TRANSPORT, self.options.transport_hint(transport or ""))
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
            raise RequestError(ErrorCode.UNSUPPORTED_PROTOCOL_VERSION, self.options.unsupported_hint(eio or ""))
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
        options = self.options
        rest = _open_packet_tail(upgrades, options.ping_interval, options.ping_timeout, options.max_message_bytes)
        return f'{{"sid":{jsoncodec.dumps(connection.sid)},{rest}'

    def _can_upgrade(self) -> bool:
        options = self.options
        return options.allow_upgrades and "websocket" in options.transports and self._async["websocket"] is not None

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
                body = read_body(request.environ, self.options.max_message_bytes, self._patience(request.environ))
                for packet in connection.codec.decode_payload(body, request.query, self.options.max_payload_packets):
                    connection.receive(packet)
        except ProtocolError as error:
            raise self._broken(connection, error) from None
        except RequestError:
            connection.close(Reason.TRANSPORT_ERROR)
            raise
        return Response(connection.codec.posted(request.query))

    def _patience(self, environ: Environ) -> AbstractContextManager[Any]:
        """How long a body may take to arrive: no longer than a silent client may live."""
        limit = self.options.ping_interval + self.options.ping_timeout
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
        request.accept_websocket(self.options.max_message_bytes)
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
