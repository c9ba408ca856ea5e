"""How packets leave: a transport owns what has not left yet, and never makes the sender wait."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol

from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.frames import Frame
from repo_notify.engine.wire.outgoing import Outgoing, control
from repo_notify.engine.wire.packets import EioPacket, EioType

from .backlog import Backlog, Backlogs, Outbox
from .flush import Following
from .timers import Signal

# How long a poll stays open during an upgrade before a noop ends it: the client finishes the poll before it upgrades.
UPGRADING_HOLD_S = 0.1


class Transport(Protocol):
    """What a connection asks of its transport."""

    @property
    def name(self) -> str:
        """The name in `transport=`."""

    def send(self, out: Outgoing) -> None:
        """Queue a packet; never waits."""

    def finish(self, *, close_packet: bool) -> None:
        """Send what is queued (and with `close_packet` an Engine.IO close), then end."""

    def abort(self, final: EioType) -> None:
        """End now; whoever waits for packets gets `final`."""

    def throttle(self, room: Signal) -> None:
        """Take no more from the client until `room` is set; may wait for it."""

    def follow(self, following: Following) -> bool:
        """Have that follow all that leaves in the write under way; False where none is, so that it must be sent."""

    def conclude(self) -> None:
        """Have what follows leave before anything that is sent from now on."""

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once nothing waits to be sent; one call at a time, which must not wait."""

    @property
    def backlog(self) -> Backlog | None:
        """What waits for a client that does not take it; None, or empty, where nothing does."""

    @property
    def drained(self) -> bool:
        """Whether nothing waits to be sent."""


# python-engineio's clients end the connection at a payload that holds more (`Payload.max_decode_packets`).
MAX_POLL_PACKETS = 16


class UpgradeTarget(Transport, Protocol):
    """A transport to which polling changes."""

    def adopt(self, left: Iterable[Outgoing]) -> None:
        """Take over what another transport could not send; before anything else is sent."""


class PollingTransport:
    """HTTP long-polling: packets wait for the next GET. `poll` is called by the request's own thread or greenlet."""

    name: ClassVar[str] = "polling"

    def __init__(self, codec: Codec, signal: Signal, backlogs: Backlogs) -> None:
        self._codec = codec
        self._signal = signal
        self.backlog = Outbox(codec, backlogs, backlogs.limits.poll_moment)
        self._final: EioType | None = None
        self._hold: float | None = None
        self.polling = False
        self.posting = False

    @property
    def drained(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self.backlog and not self.polling

    def throttle(self, room: Signal) -> None:
        """The POST that brought the packets waits."""
        room.wait()

    def send(self, out: Outgoing) -> None:
        """Queue a packet for the open or the next poll."""
        if self._final is None:
            # What leaves together stays together, but for what is too much for one answer.
            for part in out.parts if len(out.packets(self._codec)) > MAX_POLL_PACKETS else (out,):
                self.backlog.put(part)
            self._signal.set()

    def follow(self, following: Following) -> bool:  # noqa: ARG002 - the transports' common signature
        """Never: packets are queued one by one."""
        return False

    def conclude(self) -> None:
        """Nothing follows."""

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once the client has asked for all that waits."""
        self.backlog.when_empty(call)

    def poll(self) -> list[EioPacket]:
        """Wait for packets, at least one; the connection sees to it that only one poll is open."""
        while True:
            self._signal.clear()
            packets = self._take()
            if packets:
                return packets
            if self._final is not None:
                return [EioPacket(self._final)]
            if not self._signal.wait(self._hold) and self._hold is not None:
                return [EioPacket(EioType.NOOP)]

    def _take(self) -> list[EioPacket]:
        packets: list[EioPacket] = []
        while (out := self.backlog.begin()) is not None:
            more = out.packets(self._codec)
            if packets and len(packets) + len(more) > MAX_POLL_PACKETS and self._final is None:
                break
            packets += more
            self.backlog.drop(out)
        return packets

    def start_upgrade(self) -> None:
        """End the open poll; later ones are short, until the upgrade has succeeded or failed."""
        self._hold = UPGRADING_HOLD_S
        if self.polling:
            self.send(control(EioType.NOOP))

    def stop_upgrade(self) -> None:
        """Go on as before."""
        self._hold = None

    def release(self) -> list[Outgoing]:
        """Hand over what has not left; polls end with a noop from now on."""
        self._final = EioType.NOOP
        left = self.backlog.clear()
        self._signal.set()
        return left

    def finish(self, *, close_packet: bool) -> None:
        """The open or next poll gets what is queued and, as a poll has no end of its own, always a close packet."""
        del close_packet
        self.send(control(EioType.CLOSE))
        self._final = EioType.CLOSE

    def abort(self, final: EioType) -> None:
        """The open poll gets `final`."""
        self.backlog.clear()
        self._final = final
        self._signal.set()


class WebSocketTransport:
    """A WebSocket of the async mode's own driver, with a writer task that sends what is queued.

    `socket` is the driver's object (`send`, `wait`, `close`); `raw` the TCP socket under it, where it could be found.
    """

    name: ClassVar[str] = "websocket"

    def __init__(
        self, codec: Codec, websocket: Any, signal: Signal, backlogs: Backlogs, logger: logging.Logger
    ) -> None:
        self._codec = codec
        self._websocket = websocket
        self._raw = raw_socket(websocket)
        self._signal = signal
        self._logger = logger
        self.backlog = Outbox(codec, backlogs, backlogs.limits.socket_moment)
        self._ending = False
        self._ended = False
        if self._raw is not None:
            with contextlib.suppress(OSError):  # a UNIX socket has no such option
                self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def drained(self) -> bool:
        """Whether nothing waits to be sent."""
        return self._ended

    def throttle(self, room: Signal) -> None:
        """The reader waits."""
        room.wait()

    def send(self, out: Outgoing) -> None:
        """Queue a packet for the writer."""
        if not self._ending:
            self.backlog.put(out)
            self._signal.set()

    def follow(self, following: Following) -> bool:  # noqa: ARG002 - as above
        """Never: packets are queued one by one."""
        return False

    def conclude(self) -> None:
        """Nothing follows."""

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once the writer has sent all that waits."""
        self.backlog.when_empty(call)

    def adopt(self, left: Iterable[Outgoing]) -> None:
        """Take over what another transport could not send; before anything else is sent here."""
        for out in left:
            self.backlog.put(out)
        self._signal.set()

    def receive(self) -> Frame | None:
        """Wait for a message; None when the peer is gone or broke RFC 6455."""
        try:
            frame = self._websocket.wait()
        except OSError:
            return None
        return bytes(frame) if isinstance(frame, (bytearray, memoryview)) else frame

    def finish(self, *, close_packet: bool) -> None:
        """Send what is queued, then the WebSocket's closing handshake."""
        if close_packet:
            self.send(control(EioType.CLOSE))
        self._ending = True
        self._signal.set()

    def abort(self, final: EioType) -> None:
        """End the TCP connection, also under a writer or reader that waits on it."""
        del final
        self.backlog.clear()
        self._ending = True
        self._signal.set()
        self._shutdown(socket.SHUT_RDWR)

    def write(self) -> None:
        """The writer task: sends until the end, then closes the WebSocket."""
        try:
            while not self._ending or self.backlog:
                self._signal.wait()
                self._signal.clear()
                self._flush()
            self._websocket.close()
        except Exception as error:  # noqa: BLE001 - the drivers' errors for a dead peer have no common base
            self._logger.info("websocket writer ended: %s", type(error).__name__)
        finally:
            self._ending = self._ended = True
            self.backlog.clear()
            # The reader waits for the peer's end, which the connection's closing time bounds.
            self._shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        while (out := self.backlog.begin()) is not None:
            for frame in out.frames(self._codec):
                self._websocket.send(frame)
            self.backlog.drop(out)

    def _shutdown(self, how: int) -> None:
        if self._raw is not None:
            with contextlib.suppress(OSError):  # closed already
                self._raw.shutdown(how)


# Where the drivers keep the TCP socket: simple-websocket; gevent-websocket behind its request handler.
_RAW_PATHS = (("ws", "sock"), ("_sock", "handler", "socket"))


def raw_socket(websocket: Any) -> socket.socket | None:
    """The TCP socket under a driver's WebSocket object, None if it is of an unknown kind."""
    for path in _RAW_PATHS:
        found = websocket
        for name in path:
            found = getattr(found, name, None)
        if hasattr(found, "shutdown") and hasattr(found, "setsockopt"):
            return found  # type: ignore[no-any-return]  # the drivers are untyped; gevent's socket is none of socket.socket
    return None
