"""One Engine.IO connection: its transport, heartbeat and end. What the messages mean is the listener's matter."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from time import time
from typing import Any, Protocol

from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.errors import ProtocolError
from repo_notify.engine.wire.frames import Frame
from repo_notify.engine.wire.outgoing import Joined, Outgoing, control
from repo_notify.engine.wire.packets import EioPacket, EioType

from .backlog import Backlog, Backlogs, Limit
from .flush import Following
from .options import Options
from .timers import Lock, Timer, Timers
from .transports import PollingTransport, Transport, UpgradeTarget, WebSocketTransport

Environ = dict[str, Any]


class Reason:
    """Why a connection ended, in python-engineio's words."""

    SERVER_DISCONNECT = "server disconnect"
    CLIENT_DISCONNECT = "client disconnect"
    PING_TIMEOUT = "ping timeout"
    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    SLOW_CLIENT = "slow client"


class Owner(Protocol):
    """What a connection tells the server."""

    timers: Timers
    options: Options
    slow_clients: Counter[str]
    backlogs: Backlogs
    # The same for all of them, so that it is encoded once.
    ping: Outgoing
    # Runs a call for which nobody waits.
    run: Callable[[Callable[[], None]], object]

    def new_lock(self) -> Lock:
        """A re-entrant lock of the async mode."""

    def closed(self, connection: Connection, reason: str) -> None:
        """The connection is closed for the application; what is queued may still leave."""

    def drained(self, connection: Connection) -> None:
        """Nothing of the connection is left."""


class Listener(Protocol):
    """Who hears of a connection's messages."""

    def receive(self, data: Frame) -> None:
        """A message arrived; ProtocolError ends the connection."""


# Connections of one second share the number: there are many of them.
_second = lru_cache(1)(int)


class Connection:
    """One Engine.IO session. `environ` is the handshake's, `session` the application's own, `since` its start (UTC)."""

    __slots__ = (
        "__weakref__",
        "_closing",
        "_heartbeat",
        "_lock",
        "_owner",
        "_pinged",
        "_session",
        "closed",
        "codec",
        "environ",
        "held",
        "listener",
        "sid",
        "since",
        "transport",
        "upgrading",
    )

    def __init__(self, owner: Owner, sid: str, codec: Codec, environ: Environ, transport: Transport) -> None:
        self.sid = sid
        self.codec = codec
        self.environ = environ
        self.since = _second(int(time()))
        self._session: dict[str, Any] | None = None
        self.listener: Listener | None = None
        self.transport = transport
        self.closed = False
        self.held = False
        self.upgrading = False
        self._owner = owner
        self._lock = owner.new_lock()
        self._heartbeat: Timer | None = None
        self._pinged = False
        self._closing: Timer | None = None

    @property
    def label(self) -> str:
        """What stands for the connection in the log: with the whole id anybody could send for it."""
        return self.sid[:8]

    @property
    def session(self) -> dict[str, Any]:
        """The application's own data of the connection."""
        if self._session is None:
            self._session = {}
        return self._session

    @session.setter
    def session(self, session: dict[str, Any]) -> None:
        self._session = session

    @property
    def upgraded(self) -> bool:
        """Whether the transport is a WebSocket (python-engineio's name)."""
        return self.transport.name == WebSocketTransport.name

    def send(self, out: Outgoing, following: Following | None = None) -> None:
        """Queue a packet, unless the connection is closed. TypeError or ValueError where it cannot be encoded.

        Behind this, and whatever else leaves in the same write, goes what `following.now()` is then.
        """
        if following is not None and not self.transport.follow(following):
            out = Joined((out, following.now()))
        out.packets(self.codec)
        with self._lock:
            if self.closed:
                return
            self.transport.send(out)
            backlog = self.transport.backlog
            if backlog is not None and backlog.size:
                self._owner.backlogs.watch(self)
                if backlog.is_large():
                    self.too_slow(Limit.BYTES)

    def when_drained(self, call: Callable[[], None]) -> None:
        """Call, in a task of its own, once nothing waits for the client; never if it ends before."""
        with self._lock:
            if not self.closed:
                self.transport.when_drained(partial(self._run, call))

    def _run(self, call: Callable[[], None]) -> None:
        self._owner.run(call)

    @property
    def backlog(self) -> Backlog | None:
        """What waits for the client, if anything does."""
        return self.transport.backlog

    @property
    def max_waiting(self) -> int:
        """How much may wait for a client, in bytes."""
        return self._owner.backlogs.limits.max_bytes

    def start_heartbeat(self) -> None:
        """Begin to ping, or to wait for the client's pings (Engine.IO protocol, "Heartbeat")."""
        if self.held:
            return
        options = self._owner.options
        if self.codec.server_pings:
            self._beat(options.ping_interval, self._ping)
        else:
            self._beat(options.ping_interval + options.ping_timeout, self._silent)

    def _beat(self, seconds: float, call: Callable[[], None]) -> None:
        """One timer per connection: what a client sends moves it, and costs nothing more."""
        timers = self._owner.timers
        with self._lock:
            if self.closed:
                return
            if self._heartbeat is None:
                self._heartbeat = timers.after(seconds, call)
            else:
                self._heartbeat = timers.move(self._heartbeat, seconds, call)

    def _ping(self) -> None:
        # First, since the pong may be faster than what follows.
        self._pinged = True
        self._beat(self._owner.options.ping_timeout, self._silent)
        self.send(self._owner.ping)

    def hold(self) -> None:
        """Keep the client, whose heartbeat is not read for now: it sends faster than it is served (`release`)."""
        self.held = True
        self._reassure_soon()

    def release(self) -> None:
        """Expect the client's heartbeat again."""
        if self.held:
            self.held = False
            self.start_heartbeat()

    def _reassure(self) -> None:
        """Whatever arrives tells a client of any generation that the server is there."""
        self._reassure_soon()
        self.send(control(EioType.NOOP))

    def _reassure_soon(self) -> None:
        options = self._owner.options
        self._beat(min(options.ping_interval, options.ping_timeout) / 2, self._reassure)

    def _silent(self) -> None:
        self.close(Reason.PING_TIMEOUT)

    def receive(self, packet: EioPacket) -> None:
        """Handle a packet of the client; ProtocolError where the protocol has no such packet from a client."""
        if self.closed:
            return
        if packet.type is EioType.MESSAGE:
            if self.listener is not None:
                self.listener.receive(packet.data)
            return
        handle = _FROM_CLIENT[self.codec.server_pings].get(packet.type)
        if handle is None:
            raise ProtocolError(f"unexpected {packet.type.name} packet")
        handle(self, packet)

    def _pong(self, _packet: EioPacket) -> None:
        with self._lock:
            pinged, self._pinged = self._pinged, False
        if not pinged:
            raise ProtocolError("pong without a ping")
        self.start_heartbeat()

    def _client_ping(self, packet: EioPacket) -> None:
        self.start_heartbeat()
        if isinstance(packet.data, str):
            self.send(control(EioType.PONG, packet.data))

    def _client_close(self, _packet: EioPacket) -> None:
        self.close(Reason.CLIENT_DISCONNECT, final=EioType.NOOP)

    @contextlib.contextmanager
    def polling(self) -> Iterator[PollingTransport]:
        """The one GET that may be open; ProtocolError, which ends the session, for a second one."""
        with self._claim("polling") as transport:
            yield transport

    @contextlib.contextmanager
    def posting(self) -> Iterator[PollingTransport]:
        """The one POST that may be under way; as `polling`."""
        with self._claim("posting") as transport:
            yield transport

    @contextlib.contextmanager
    def _claim(self, direction: str) -> Iterator[PollingTransport]:
        with self._lock:
            transport = self.transport
            if not isinstance(transport, PollingTransport):
                raise ProtocolError("the transport is no longer polling")
            if getattr(transport, direction):
                raise ProtocolError(f"second concurrent request while {direction}")
            setattr(transport, direction, True)
        try:
            yield transport
        finally:
            setattr(transport, direction, False)
            self._check_drained()

    def start_upgrade(self) -> bool:
        """Begin; False where there is nothing to upgrade or an upgrade is under way."""
        with self._lock:
            if self.closed or self.upgrading or not isinstance(self.transport, PollingTransport):
                return False
            self.upgrading = True
            return True

    def end_open_poll(self) -> None:
        """The probe was answered: the client now waits for its poll to end (Engine.IO protocol, "Upgrade")."""
        with self._lock:
            if isinstance(self.transport, PollingTransport):
                self.transport.start_upgrade()

    def stop_upgrade(self) -> None:
        """The upgrade failed; polling goes on."""
        with self._lock:
            self.upgrading = False
            if isinstance(self.transport, PollingTransport):
                self.transport.stop_upgrade()

    def complete_upgrade(self, transport: UpgradeTarget) -> bool:
        """Change to `transport`, which takes over what is queued, in order. False if the connection ended meanwhile."""
        with self._lock:
            self.upgrading = False
            if self.closed or not isinstance(self.transport, PollingTransport):
                return False
            transport.adopt(self.transport.release())
            self.transport = transport
            return True

    def close(self, reason: str, *, final: EioType = EioType.CLOSE) -> None:
        """End at once, what is queued is lost. An open poll is answered with `final`."""
        if self._mark_closed():
            self.transport.abort(final)
            self._owner.closed(self, reason)
            self._owner.drained(self)

    def finish(self, reason: str, *, close_packet: bool = True) -> None:
        """End when what is queued has left, or after `close_timeout`; with `close_packet` that is the last packet."""
        if self._mark_closed():
            self._closing = self._owner.timers.after(self._owner.options.close_timeout, self._give_up)
            self.transport.finish(close_packet=close_packet)
            self._owner.closed(self, reason)
            self._check_drained()

    def fail(self, error: ProtocolError) -> None:
        """End because of what the client did; the transport says so in its own way."""
        del error
        if isinstance(self.transport, WebSocketTransport):
            self.finish(Reason.TRANSPORT_ERROR, close_packet=False)
        else:
            self.close(Reason.TRANSPORT_ERROR)

    def ended(self) -> None:
        """The client has closed the transport, or is gone."""
        self.finish(Reason.TRANSPORT_CLOSE, close_packet=False)
        self._check_drained()

    def broken(self) -> None:
        """The client broke the transport's protocol, which has been said in its own way."""
        self.finish(Reason.TRANSPORT_ERROR, close_packet=False)

    def too_slow(self, limit: str) -> None:
        """The client does not take what is sent to it: nothing can be said, and nothing is kept any more."""
        if self.closed:
            self._give_up()
            return
        self._owner.slow_clients[limit] += 1
        self.close(Reason.SLOW_CLIENT)

    def _mark_closed(self) -> bool:
        with self._lock:
            if self.closed:
                return False
            self.closed = True
            if self._heartbeat is not None:
                self._heartbeat.cancel()
            return True

    def _give_up(self) -> None:
        self.transport.abort(EioType.CLOSE)
        self._owner.drained(self)

    def _check_drained(self) -> None:
        if self.closed and self.transport.drained:
            self.gone()

    def gone(self) -> None:
        """The transport has ended: nothing is left to wait for."""
        if self._closing is not None:
            self._closing.cancel()
        self._owner.drained(self)


_Handler = Callable[[Connection, EioPacket], None]
# What a client may send beside messages, by whether the server pings.
_FROM_CLIENT: dict[bool, dict[EioType, _Handler]] = {
    True: {EioType.CLOSE: Connection._client_close, EioType.PONG: Connection._pong},
    False: {EioType.CLOSE: Connection._client_close, EioType.PING: Connection._client_ping},
}
