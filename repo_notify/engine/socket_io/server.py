"""The Socket.IO server on our own Engine.IO server; used through python-socketio's API, as Flask-SocketIO does.

Names used that python-socketio does not document: `_engineio_server_class`, `_trigger_event`, and `_handle_eio_connect`
which its constructor registers, overridden here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import socketio
from socketio.exceptions import ConnectionRefusedError as Refused

from repo_notify.engine.engine_io.connection import Connection, Environ, Reason
from repo_notify.engine.engine_io.options import Options
from repo_notify.engine.engine_io.server import EngineServer
from repo_notify.engine.engine_io.timers import Lock, Signal, Timer
from repo_notify.engine.wire.outgoing import Outgoing
from repo_notify.engine.wire.packets import SioPacket, SioType, Spelling

from .client import Client
from .manager import RoomManager
from .members import Callback, Member
from .recovery import Recovery

OnOpen = Callable[[str, Environ], None]
OnClose = Callable[[str, str], None]
# (event, member, arguments, how the packet was written) -> the acknowledgement.
Fallback = Callable[[Any, Member, Sequence[Any], "Spelling | None"], Any]
# (event, member, arguments): it waits for its turn.
Arriving = Callable[[Any, Member, Sequence[Any]], None]

# Who waits for no time at all under gevent lets other greenlets run, but nothing be read.
_MOMENT = 0.0001
_FAILED = "connection %s: %s handler of %s failed"
_REJECTED = {"message": "Connection rejected by server"}
# Handlers that stand under these names are called for something else than an event of that name.
_NO_EVENTS = frozenset({"connect", "disconnect", "*"})


class Server(socketio.Server):
    """A Socket.IO server to the letter of the protocol documents.

    `on_open(eio_sid, environ)`, `on_close(eio_sid, reason)`: lists of calls before the first namespace, after the last.
    `fallbacks`: by namespace, what gets the events for which no handler is registered. `arrivals`: what is told of an
    event beforehand that waits for its turn behind others of its connection.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.fallbacks: dict[str, Fallback] = {}
        self.arrivals: dict[str, Arriving] = {}
        # By namespace: the application that keeps what it sends there.
        self.recoveries: dict[str, Recovery] = {}
        self.on_open: list[OnOpen] = []
        self.on_close: list[OnClose] = []
        self.manager: RoomManager
        self.eio: EngineServer
        stock: Any = super()
        stock.__init__(
            client_manager=RoomManager(options.logger), logger=options.logger, async_handlers=options.async_handlers,
            options=options, ended=self._ended,
        )
        # Runs a call in a task of its own, or at once.
        self.spawn: Callable[[Callable[[], None]], object] = self.eio.run if options.async_handlers else _at_once
        # python-socketio's own set would hold "/" where none is named.
        self.namespaces = frozenset(options.namespaces)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def connection_of(self, any_id: str) -> str | None:
        """The Engine.IO id of the connection that has this id, be it that id itself or its id in a namespace."""
        if any_id in self.eio.sockets:
            return any_id
        member = self.manager.find(any_id)
        return member.connection.sid if member else None

    def emit(
        self, event: str, data: Any = None, to: Any = None, room: Any = None, skip_sid: Any = None,
        namespace: str | None = None, callback: Callback | None = None, ignore_queue: bool = False,
    ) -> None:
        """Send an event, as in python-socketio; an empty list of rooms is nobody, None is the whole namespace."""
        del ignore_queue
        target = to if to is not None else room
        self.manager.deliver(event, data, namespace or "/", room=target, skip_sid=skip_sid, callback=callback)

    def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """End a member's stay in a namespace; without any left its connection is closed too."""
        del ignore_queue
        namespace = namespace or "/"
        member = self.manager.member(sid, namespace)
        if member is None or member.gone:
            return
        if member.held is not None:
            member.leaving = True  # its CONNECT is answered first
            return
        connection = member.connection
        connection.send(Outgoing(SioPacket(SioType.DISCONNECT, namespace)))
        client = connection.listener
        if isinstance(client, Client) and client.end_namespace(namespace, Reason.SERVER_DISCONNECT):
            connection.finish(Reason.SERVER_DISCONNECT)

    def keep(self, namespace: str, recovery: Recovery) -> None:
        """Have an application say who comes back to a namespace; before anybody connects."""
        self.recoveries[namespace] = recovery
        self.manager.keep_positions(namespace, recovery.history, recovery.changed)

    def take_over(self, member: Member) -> None:
        """End the connection of a member whose client is back on another one, at once."""
        connection = member.connection
        client = connection.listener
        if isinstance(client, Client):
            client.leave_all(Reason.TRANSPORT_CLOSE)
        connection.close(Reason.TRANSPORT_CLOSE)

    def waiting(self, eio_sid: str) -> int:
        """How many packets of a connection wait for their turn."""
        connection = self.eio.sockets.get(eio_sid)
        client = connection.listener if connection is not None else None
        return client.waiting if isinstance(client, Client) else 0

    def shutdown(self, timeout: float = 0, *, per_second: float = math.inf) -> None:
        """Refuse handshakes with 503, close all connections so that clients reconnect; wait up to `timeout` s.

        Of the connections so many are closed `per_second`.
        """
        self.eio.shutdown(timeout, per_second=per_second)

    # What sessions need.

    def attachments_due(self, call: Callable[[], None]) -> Timer:
        """Have that called unless the attachments of a packet have arrived in time."""
        return self.eio.timers.after(self.options.attachments_timeout, call)

    def new_lock(self) -> Lock:
        """A re-entrant lock of the async mode."""
        return self.eio.new_lock()

    def new_signal(self) -> Signal:
        """An event of the async mode."""
        return self.eio.new_signal()

    def new_sid(self) -> str:
        """An id that nobody has."""
        return self.eio.new_sid()

    def knows(self, namespace: str) -> bool:
        """Whether a namespace exists: it has handlers, or the constructor names it."""
        return any(
            namespace in known or "*" in known
            for known in (self.namespaces, self.handlers, self.namespace_handlers)
        )

    def handle_connect(self, member: Member, auth: Any) -> Any:
        """Call the connect handler; None, or the data that tells the client of its refusal."""
        environ = member.connection.environ
        try:
            accepted = self._trigger_connect(member, environ, auth)
        except Refused as error:
            return error.error_args
        except ConnectionRefusedError:
            return dict(_REJECTED)
        except Exception:
            self.logger.exception(_FAILED, member.connection.label, "the connect", member.namespace)
            return dict(_REJECTED)
        return dict(_REJECTED) if accepted is False else None

    def _trigger_connect(self, member: Member, environ: Environ, auth: Any) -> Any:
        """Connect handlers may or may not take the client's authentication, as in python-socketio."""
        try:
            return self._trigger("connect", member.namespace, member.sid, environ, auth or None)
        except TypeError as error:
            if not _is_call_error(error):
                raise
        return self._trigger("connect", member.namespace, member.sid, environ)

    def _trigger(self, event: str, namespace: str, *arguments: Any) -> Any:
        stock: Any = super()
        return stock._trigger_event(event, namespace, *arguments)

    def handle_event(self, client: Client, packet: SioPacket) -> None:
        """Call the event's handler; what it returns is the acknowledgement."""
        member = client.members.get(packet.namespace)
        if member is None or member.gone:
            return
        event, *arguments = packet.data
        fallback = self.fallbacks.get(member.namespace)
        try:
            if fallback is None or (event in self.handlers.get(member.namespace, ()) and event not in _NO_EVENTS):
                result = self._dispatch(member, event, arguments)
            else:
                result = fallback(event, member, arguments, packet.spelling)
            if packet.id is not None and result != self.not_handled:
                data = [] if result is None else list(result) if isinstance(result, tuple) else [result]
                member.connection.send(Outgoing(SioPacket(SioType.ACK, member.namespace, packet.id, data)))
        except Exception:
            self.logger.exception(_FAILED, member.connection.label, "an event", member.namespace)
        # What the handler has begun to hand out goes behind its answer.
        if member.replay is not None and not member.connection.closed:
            member.replay.run()

    def arriving(self, client: Client, packet: SioPacket) -> None:
        """Tell of an event that waits for its turn behind others."""
        hook = self.arrivals.get(packet.namespace)
        member = client.members.get(packet.namespace)
        if hook is not None and member is not None:
            event, *arguments = packet.data
            self._guarded(hook, event, member, arguments)

    def give_way(self) -> None:
        """Let other tasks run, and what has arrived be read."""
        self.eio.sleep(_MOMENT)

    def _dispatch(self, member: Member, event: Any, arguments: Sequence[Any]) -> Any:
        """Call the handler of an event, found as python-socketio does: no name that a client thinks of is another's."""
        for space in (member.namespace, "*"):
            named = self.handlers.get(space, {})
            before = () if space == member.namespace else (member.namespace,)
            if event not in _NO_EVENTS and event in named:
                return named[event](*before, member.sid, *arguments)
            if "*" in named:
                return named["*"](event, *before, member.sid, *arguments)
        for space, before in ((member.namespace, ()), ("*", (member.namespace,))):
            if space in self.namespace_handlers and isinstance(event, str) and event not in _NO_EVENTS:
                return self.namespace_handlers[space].trigger_event(event, *before, member.sid, *arguments)
        return self.not_handled

    def handle_disconnect(self, member: Member, reason: str) -> None:
        """Call the disconnect handler."""
        try:
            self._trigger("disconnect", member.namespace, member.sid, reason)
        except Exception:
            self.logger.exception(_FAILED, member.connection.label, "the disconnect", member.namespace)

    def _forget(self, connection: Connection, reason: str) -> None:
        """The last of a connection: its session and environ are dropped, `on_close` is called."""
        connection.listener = None  # they would keep one another until the garbage collector comes
        self.environ.pop(connection.sid, None)
        for hook in self.on_close:
            self._guarded(hook, connection.sid, reason)

    def _guarded(self, hook: Callable[..., None], *arguments: Any) -> None:
        try:
            hook(*arguments)
        except Exception:
            self.logger.exception("a hook of a connection failed")

    # What the Engine.IO server tells. The base class declares the first with other arguments than its servers have.

    def _handle_eio_connect(self, eio_sid: str, environ: Environ) -> None:  # type: ignore[override]  # see above
        connection = self.eio.sockets[eio_sid]
        self.environ[eio_sid] = environ
        timer = self.eio.timers.after(self.options.connect_timeout, lambda: self._never_connected(connection))
        client = connection.listener = Client(self, connection, timer)
        for hook in self.on_open:
            self._guarded(hook, eio_sid, environ)
        if connection.codec.connects_by_itself:
            client.connect()

    def _never_connected(self, connection: Connection) -> None:
        self.logger.info("connection %s: no namespace within %s s", connection.label, self.options.connect_timeout)
        connection.close(Reason.TRANSPORT_CLOSE)

    def _ended(self, connection: Connection, reason: str) -> None:
        """The end of a connection is told after its events were handled."""
        client = connection.listener
        if isinstance(client, Client):
            client.close(partial(self._told, client, reason))

    def _told(self, client: Client, reason: str) -> None:
        client.leave_all(reason)
        self._forget(client.connection, reason)


def _at_once(call: Callable[[], None]) -> None:
    call()


def _is_call_error(error: TypeError) -> bool:
    """Whether the call itself failed, for its number of arguments, rather than something within the handler."""
    depth, trace = 0, error.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    # _trigger_connect, _trigger and python-socketio's _trigger_event; a fourth frame would be the handler's.
    return depth <= 3
