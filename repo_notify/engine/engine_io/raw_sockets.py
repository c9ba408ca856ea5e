"""WebSockets on raw sockets: no greenlet each, frames sent straight from the fan-out, bounded outboxes.

After the 101 answer a connection's socket is taken from the WSGI handler and watched by gevent's loop itself. The first
send in a turn of the loop goes to the socket at once; whatever else is sent to anybody in that turn waits for its end,
and leaves in one piece per socket. What a socket does not take goes to its outbox and leaves when it is writable. Order
per socket is kept throughout: nothing overtakes what waits.

A client that does not take what waits is disconnected (`backlog`): a slow client costs itself, nobody else.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.errors import ProtocolError
from repo_notify.engine.wire.frames import (
    PONG,
    Close,
    CloseCode,
    Event,
    FrameError,
    FrameParser,
    Message,
    Ping,
    build,
    build_close,
)
from repo_notify.engine.wire.outgoing import Outgoing, control
from repo_notify.engine.wire.packets import EioType

from .backlog import Backlogs, Frames, Limit
from .flush import FlushBatch, Following
from .timers import Signal

if TYPE_CHECKING:
    from .connection import Connection

# Gives the socket, what was read ahead from it, and what is to leave before anything else.
Take = Callable[[], "tuple[_socket.socket, bytes, bytes] | None"]

READ, WRITE = 1, 2
_CHUNK = 65_536
# How much of an outbox is handed to the kernel at once; more would only be copied to be refused.
PIECE = 262_144


class RawTransport:
    """One WebSocket on a raw, non-blocking socket. All calls come from the thread of gevent's loop."""

    name: ClassVar[str] = "websocket"
    __slots__ = (
        "_codec",
        "_connection",
        "_drained_call",
        "_ending",
        "_following",
        "_logger",
        "_offset",
        "_outbox",
        "_owed",
        "_parser",
        "_reader",
        "_socket",
        "_writer",
        "backlog",
        "batch",
        "raw",
    )

    def __init__(
        self, codec: Codec, raw: _socket.socket, batch: FlushBatch[RawTransport], max_size: int, logger: logging.Logger
    ) -> None:
        self._codec = codec
        self._socket: _socket.socket | None = raw
        # Kept when it is closed: then it refuses by itself.
        self.raw = raw
        self.batch = batch
        self._logger = logger
        self._parser = FrameParser(max_size)
        self._connection: Connection | None = None
        # What waits: for the end of the turn, or as `backlog`.
        self._outbox: deque[bytes] | Frames | None = None
        self._offset = 0
        # Only while the socket does not take what waits: what waits for the end of the turn does not count.
        self.backlog: Frames | None = None
        self._owed: bytes | None = None
        # What goes behind all that leaves at the end of this turn.
        self._following: tuple[Following, ...] = ()
        self._drained_call: Callable[[], None] | None = None
        self._ending = False
        self._reader: Any = None
        self._writer: Any = None
        if raw.gettimeout() != 0:
            raw.setblocking(False)
        with contextlib.suppress(OSError):  # a UNIX socket has no such option
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def drained(self) -> bool:
        """Whether nothing waits to be sent."""
        return self._socket is None

    def begin(self, answer: bytes) -> None:
        """Have the handshake's answer leave at the end of the turn, together with what is sent until then."""
        self._outbox = deque((answer,))
        self.batch.wait(self)
        self.batch.begin()

    def start(self, connection: Connection, prefetched: bytes) -> None:
        """Begin to read; `prefetched` is what the client had sent behind its handshake."""
        if self._socket is None:
            return
        self._connection = connection
        self._reader = self.batch.loop.io(self._socket.fileno(), READ)
        self._reader.start(self._readable)
        self._watch()
        if prefetched:
            self._feed(prefetched)

    # What leaves.

    def send(self, out: Outgoing) -> None:
        """Send a packet, or have it wait where something waits already."""
        if self.push(out.wire(self._codec)):
            self.batch.begin()

    def _write(self, data: bytes) -> None:
        if self.push(data):
            self.batch.begin()

    def push(self, data: bytes, update: Hashable | None = None) -> bool:
        """Send, or have it wait; whether it was taken. Whoever pushes to many says so once, by `FlushBatch.begin`.

        What waits for a socket that does not take it is dropped where it has an equal `update`.
        """
        if self._ending:
            return False
        if self.batch.burst is not None:
            self.batch.divide()
        if self._outbox is not None:
            self._append(data, update)
        elif self.batch.corked:
            self._outbox = deque((data,))
            self.batch.wait(self)
        else:
            try:
                sent = self.raw.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._lost()
                return False
            if sent != len(data):
                self.keep(data, sent)
        return True

    def follow(self, following: Following) -> bool:
        """Have that follow all that leaves at the end of this turn; False where what is sent leaves, or waits, now."""
        if not self.batch.corked or self.backlog is not None:
            return False
        self.batch.divide()
        if following not in self._following:
            self._following = (*self._following, following)
        return True

    def conclude(self) -> None:
        """Have what follows leave before anything that is sent from now on."""
        self.batch.divide()
        following, self._following = self._following, ()
        for what in following:
            self._append(what.now().wire(self._codec))

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call once the socket has taken all that waits."""
        if self._socket is None:
            return
        self.batch.divide()
        if self._outbox is None:
            self.batch.loop.run_callback(call)
        else:
            self._drained_call = call

    def keep(self, data: bytes, sent: int) -> None:
        """The socket took only `sent` bytes of these: the rest waits, before anything else."""
        self._outbox = deque((data, *(self._outbox or ())))
        self._offset = sent
        self._block()

    def _append(self, data: bytes, update: Hashable | None = None) -> None:
        if self.backlog is not None:
            self.backlog.append(data, update)
            self._check(self.backlog)
        elif self._outbox is not None:
            self._outbox.append(data)

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        if self._following:
            self.conclude()
        while self._outbox and not self._writer_active():
            piece = self._piece()
            try:
                sent = self.raw.send(piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._lost()
                return
            self._sent(sent)
            if sent < len(piece):
                self._block()
                return
        if self._outbox is not None and not self._outbox:
            self._outbox = self.backlog = None
            if not self._ending:
                self.batch.backlogged.discard(self)
            self._flushed()
            if self._drained_call is not None:
                call, self._drained_call = self._drained_call, None
                call()

    def _piece(self) -> bytes:
        """The next bytes, many small frames in one."""
        assert self._outbox is not None
        if len(self._outbox) == 1 and not self._offset:
            return next(iter(self._outbox))
        parts: list[bytes] = []
        size = -self._offset
        for frame in self._outbox:
            parts.append(frame)
            size += len(frame)
            if size >= PIECE:
                break
        return b"".join(parts)[self._offset :]

    def _sent(self, count: int) -> None:
        assert self._outbox is not None
        if self.backlog is not None:
            self.backlog.moved(count)
        count += self._offset
        while self._outbox and count >= len(next(iter(self._outbox))):
            count -= len(self._outbox.popleft())
        self._offset = count
        if count and self.backlog is not None:
            self.backlog.begin()

    def _writer_active(self) -> bool:
        return self._writer is not None and bool(self._writer.active)

    def _block(self) -> None:
        """The socket takes no more for now: go on when it is writable."""
        if self._socket is None:
            return
        if self.backlog is None:
            self.backlog = self._outbox = Frames(self.batch.backlogs, self._outbox or ())
            self._watch()
        self.batch.backlogged.add(self)
        if self._writer is None:
            self._writer = self.batch.loop.io(self._socket.fileno(), WRITE)
        self._writer.start(self._writable)
        self._check(self.backlog)

    def _watch(self) -> None:
        if self.backlog is not None and self._connection is not None:
            self.batch.backlogs.watch(self._connection)

    def _check(self, backlog: Frames) -> None:
        if self._connection is not None and backlog.is_large():
            self._connection.too_slow(Limit.BYTES)

    def _writable(self) -> None:
        self._writer.stop()
        owed, self._owed = self._owed, None
        if owed is not None:
            self._append(owed)
        self.flush()

    def adopt(self, left: Iterable[Outgoing]) -> None:
        """Take over what another transport could not send; before anything else is sent here."""
        for out in left:
            self._write(out.wire(self._codec))

    def finish(self, *, close_packet: bool) -> None:
        """Send what is queued, then the WebSocket's closing handshake."""
        self._finish(CloseCode.NORMAL, close_packet=close_packet)

    def _finish(self, code: CloseCode, *, close_packet: bool) -> None:
        if self._ending:
            return
        if close_packet:
            self.send(control(EioType.CLOSE))
        self._write(build_close(code))
        self._ending, self._owed = True, None
        self.batch.backlogged.add(self)
        if self._outbox is None:
            self._flushed()

    def abort(self, final: EioType) -> None:
        """End the TCP connection at once."""
        del final
        self._ending = True
        self._close()

    def _flushed(self) -> None:
        """Everything has left: at the end the client is told so, and answers by closing, or time does."""
        if self._ending and self._socket is not None:
            with contextlib.suppress(OSError):  # the client was faster
                self._socket.shutdown(socket.SHUT_WR)
            self.batch.backlogged.discard(self)  # from now on its socket refuses by itself

    # What arrives.

    def throttle(self, room: Signal) -> None:
        """Read nothing more until `room` is set."""
        if self._reader is not None:
            self._reader.stop()
            resume: Any = room
            resume.rawlink(self._resume)

    def _resume(self, _signal: object) -> None:
        if self._reader is not None and not self._reader.active:
            self._reader.start(self._readable)

    def _readable(self) -> None:
        """The loop's callback: whatever goes wrong in it must end this connection only."""
        try:
            data = self.raw.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            if data:
                self._feed(data)
            else:
                self._lost()
        except Exception:
            self._logger.exception("connection %s: reading failed", self._label)
            self._lost()

    def _feed(self, data: bytes) -> None:
        try:
            for event in self._parser.feed(data) if not self._ending else ():
                connection = self._connection
                if self._ending or connection is None:
                    return
                if isinstance(event, Message):
                    connection.receive(self._codec.decode_packet(event.data))
                else:
                    self._control(connection, event)
        except FrameError as error:
            self._fail(error.code, str(error))
        except ProtocolError as error:
            self._fail(CloseCode.NORMAL, error.problem)

    def _control(self, connection: Connection, event: Event) -> None:
        if isinstance(event, Ping):
            self._pong(build(event.data, PONG))
        elif isinstance(event, Close):
            self._finish(CloseCode.NORMAL, close_packet=False)
            connection.ended()

    @property
    def _label(self) -> str:
        return self._connection.label if self._connection is not None else "none"

    def _pong(self, frame: bytes) -> None:
        """A client that does not take its pongs gets that of its last ping (RFC 6455 section 5.5.3)."""
        if self.backlog is None:
            self._write(frame)
        else:
            self._owed = frame

    def _fail(self, code: CloseCode, problem: str) -> None:
        self._logger.info("connection %s: its WebSocket is closed with %s: %s", self._label, int(code), problem)
        self._finish(code, close_packet=False)
        if self._connection is not None:
            self._connection.broken()

    def _lost(self) -> None:
        """The client is gone."""
        self._ending = True
        connection = self._connection
        self._close()
        if connection is not None:
            connection.ended()

    def _close(self) -> None:
        # They would keep one another until the garbage collector comes.
        self._connection = self._drained_call = None
        self._following = ()
        if self.backlog is not None:
            self.backlog.clear()
        self._outbox = self.backlog = self._owed = None
        self.batch.backlogged.discard(self)
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reader = self._writer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class RawSockets:
    """Makes raw transports out of WebSockets, where gevent's own server has them on plain TCP."""

    def __init__(self, backlogs: Backlogs, max_size: int, logger: logging.Logger) -> None:
        self._backlogs, self._max_size, self._logger = backlogs, max_size, logger
        self._batch: FlushBatch[RawTransport] | None = None

    def take(self, codec: Codec, taking: Take | None) -> tuple[RawTransport, bytes] | None:
        """A transport on the socket that `taking` gives, and what was read ahead; None where it is not to be had."""
        taken = taking() if taking is not None else None
        if taken is None:
            return None
        raw, prefetched, first = taken
        transport = RawTransport(codec, raw, self._of_loop(), self._max_size, self._logger)
        if first:
            transport.begin(first)
        return transport, prefetched

    def _of_loop(self) -> FlushBatch[RawTransport]:
        # At the first connection, not before: a server may fork after the app was made, and the loop is the child's.
        if self._batch is None:
            import gevent

            self._batch = FlushBatch(gevent.get_hub().loop, self._backlogs)
        return self._batch
