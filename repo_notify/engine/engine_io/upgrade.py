"""Connections on WebSockets: the best transport that one allows, the upgrade from polling, and reading to the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.errors import ProtocolError
from repo_notify.engine.wire.packets import EioPacket, EioType

from .backlog import Backlogs
from .connection import Connection, Reason
from .options import Options
from .raw_sockets import RawSockets, RawTransport, Take
from .timers import Signal, Timers
from .transports import UpgradeTarget, WebSocketTransport


class Task(Protocol):
    """What a thread and a greenlet have in common."""

    def join(self) -> None:
        """Wait for its end."""


class Host(Protocol):
    """What they need of the server."""

    timers: Timers
    options: Options
    backlogs: Backlogs

    def new_signal(self) -> Signal:
        """An event of the async mode."""

    def spawn(self, call: Callable[[], None]) -> Task:
        """Run a call in a task of its own."""


class WebSocketConnections:
    """Serves them; `raw` is None where WebSockets stay with the driver. A message has at most `max_size` bytes."""

    def __init__(self, host: Host, raw: RawSockets | None, max_size: int, logger: logging.Logger) -> None:
        self._host, self._raw, self._max_size, self._logger = host, raw, max_size, logger

    def take(self, codec: Codec, taking: Take | None) -> tuple[RawTransport, bytes] | None:
        """A transport on the raw socket, and what was read ahead; None where it is not to be had."""
        return self._raw.take(codec, taking) if self._raw is not None else None

    def transport(self, codec: Codec, websocket: Any) -> tuple[UpgradeTarget, Callable[[Connection], None]]:
        """The best transport that this WebSocket allows, and the call that serves a connection on it."""
        taking = getattr(getattr(websocket, "_sock", None), "take_socket", None)
        taken = self.take(codec, taking)
        if taken is not None:
            raw, prefetched = taken
            return raw, lambda connection: raw.start(connection, prefetched)
        transport = self._driven(codec, websocket)
        return transport, lambda connection: self._serve(connection, transport)

    def _driven(self, codec: Codec, websocket: Any) -> WebSocketTransport:
        return WebSocketTransport(codec, websocket, self._host.new_signal(), self._host.backlogs, self._logger)

    def upgrade(self, connection: Connection, websocket: Any) -> None:
        """The probe, then the change of transport (Engine.IO protocol, "Upgrade")."""
        probing = self._driven(connection.codec, websocket)
        if not connection.start_upgrade():
            websocket.close()
            return
        limit = self._host.timers.after(self._host.options.upgrade_timeout, lambda: probing.abort(EioType.CLOSE))
        try:
            proven = self._probe(connection, probing, websocket)
        finally:
            limit.cancel()
        if proven:
            transport, begin = self.transport(connection.codec, websocket)
            if connection.complete_upgrade(transport):
                begin(connection)
                return
            transport.abort(EioType.CLOSE)
        connection.stop_upgrade()
        probing.finish(close_packet=False)
        probing.write()

    def _probe(self, connection: Connection, probing: WebSocketTransport, websocket: Any) -> bool:
        """Whether the client probed the WebSocket and then asked for the change."""
        codec = connection.codec
        try:
            if self._next(probing, codec) != EioPacket(EioType.PING, "probe"):
                return False
            websocket.send(codec.encode_packet(EioPacket(EioType.PONG, "probe")))
            connection.end_open_poll()
            return self._next(probing, codec) == EioPacket(EioType.UPGRADE)
        except (ProtocolError, OSError) as error:
            self._logger.info("%s: upgrade failed: %s", connection.sid, type(error).__name__)
            return False

    def _next(self, transport: WebSocketTransport, codec: Codec) -> EioPacket | None:
        frame = transport.receive()
        if frame is None:
            return None
        if len(frame) > self._max_size:
            raise ProtocolError("message too large")
        return codec.decode_packet(frame)

    def _serve(self, connection: Connection, transport: WebSocketTransport) -> None:
        """Read until the end, in the request's own task; the writer has one of its own."""
        writer = self._host.spawn(transport.write)
        try:
            while not connection.closed:
                packet = self._next(transport, connection.codec)
                if packet is None:
                    break
                connection.receive(packet)
        except ProtocolError as error:
            self._logger.info("%s: %s", connection.sid, error.problem)
            connection.fail(error)
        finally:
            connection.finish(Reason.TRANSPORT_CLOSE, close_packet=False)
            writer.join()
            connection.gone()
