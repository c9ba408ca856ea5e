"""The Socket.IO side of one connection: namespaces, incoming packets, and handlers' calls in order of arrival."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol

from repo_notify.engine.engine_io.connection import Connection, Reason
from repo_notify.engine.engine_io.options import Options
from repo_notify.engine.engine_io.timers import Lock, Signal, Timer
from repo_notify.engine.wire.errors import ProtocolError
from repo_notify.engine.wire.frames import Frame
from repo_notify.engine.wire.outgoing import Outgoing
from repo_notify.engine.wire.packets import SioPacket, SioType, Unfinished

from .manager import RoomManager
from .members import Member
from .recovery import Recovery, own_auth

# How long one connection's calls may run before others have their turn.
SLICE_SECONDS = 0.005
# Calls that may wait for their turn before the reader of the connection waits too.
MAX_WAITING_CALLS = 1000


class Host(Protocol):
    """What a session needs of the server."""

    manager: RoomManager
    recoveries: dict[str, Recovery]
    options: Options
    logger: logging.Logger

    def attachments_due(self, call: Callable[[], None]) -> Timer:
        """Have that called unless the attachments of a packet have arrived in time."""

    def spawn(self, call: Callable[[], None], /) -> object:
        """Run a call in a task of its own, or at once where handlers are not asynchronous."""

    def new_lock(self) -> Lock:
        """A re-entrant lock of the async mode."""

    def new_signal(self) -> Signal:
        """An event of the async mode."""

    def new_sid(self) -> str:
        """An id that nobody has."""

    def handle_connect(self, member: Member, auth: Any) -> Any:
        """Ask the application: None, or the data of a refusal; never raises."""

    def handle_event(self, client: Client, packet: SioPacket) -> None:
        """Call the event's handler and send its acknowledgement, unless its namespace was left; never raises."""

    def arriving(self, client: Client, packet: SioPacket) -> None:
        """Tell of an event that waits for its turn behind others; never raises."""

    def give_way(self) -> None:
        """Let other tasks run, and what has arrived be read."""

    def handle_disconnect(self, member: Member, reason: str) -> None:
        """Call the disconnect handler; never raises."""

    def knows(self, namespace: str) -> bool:
        """Whether a namespace exists."""

    def disconnect(self, sid: str, namespace: str) -> None:
        """End a member's stay in a namespace."""


class Client:
    """Decodes and checks in the reader's context; handlers run one by one in a task that lives while there is work."""

    __slots__ = (
        "_asked",
        "_calls",
        "_connect_timeout",
        "_ended",
        "_host",
        "_lock",
        "_refused",
        "_room_for_calls",
        "_unfinished",
        "_working",
        "connection",
        "members",
    )

    def __init__(self, host: Host, connection: Connection, connect_timeout: Timer) -> None:
        self._host = host
        self.connection = connection
        self.members: dict[str, Member] = {}
        # Few and short: lists are a third of sets, and there are as many of them as connections.
        self._asked: list[str] = []
        self._ended: list[str] | None = None
        self._unfinished: Unfinished | None = None
        self._refused = 0
        self._connect_timeout = connect_timeout
        self._calls: deque[Callable[[], None]] | None = None
        self._working = False
        self._lock = host.new_lock()
        self._room_for_calls: Signal | None = None

    @property
    def waiting(self) -> int:
        """How many packets wait for their turn."""
        return len(self._calls or ())

    def receive(self, data: Frame) -> None:
        """A message of the client; ProtocolError where Socket.IO does not allow it."""
        if self._unfinished is None and isinstance(data, str):
            packet = self.connection.codec.decode_message(data, self._host.options.max_attachments)
            if packet.attachments:
                self._begin(packet)
                return
        else:
            finished = self._add_attachment(data)
            if finished is None:
                return
            packet = finished
        if packet.namespace not in self._asked and not self._is_expected(packet):
            return
        # A handler may wait for an acknowledgement.
        calls = self._calls
        if calls is not None and len(calls) >= MAX_WAITING_CALLS and packet.type is not SioType.ACK:
            self._wait_for_room()
        if packet.type is SioType.EVENT:
            if calls is not None:
                self._host.arriving(self, packet)
            self._call(partial(self._host.handle_event, self, packet))
        else:
            _OTHERS[packet.type](self, packet)

    def _is_expected(self, packet: SioPacket) -> bool:
        """Whether a packet of a namespace that was not asked for is handled; ProtocolError where it may not be sent."""
        if packet.type is SioType.CONNECT:
            return True
        if self._ended and packet.namespace in self._ended:
            return False  # on its way when the server ended the namespace
        raise ProtocolError(f"{packet.type.name} before CONNECT")

    def _add_attachment(self, data: Frame) -> SioPacket | None:
        """The packet that is complete with this attachment; None while others are missing."""
        if self._unfinished is None:
            raise ProtocolError("binary data without a packet that announces it")
        if not isinstance(data, bytes):
            raise ProtocolError("text where an attachment is due")
        finished = self._unfinished.add(data)
        if finished is not None:
            self._drop_unfinished()
        return finished

    def _begin(self, packet: SioPacket) -> None:
        """Wait for the attachments of a packet; not of a client that is in no such namespace yet."""
        expected = packet.namespace in self._asked or self._is_expected(packet)
        if expected and packet.namespace not in self.members:
            raise ProtocolError("attachments before the namespace is joined")
        self._unfinished = Unfinished(packet, self._host.options.max_message_bytes)
        self._unfinished.deadline = self._host.attachments_due(self._never_finished)

    def _never_finished(self) -> None:
        self.connection.fail(ProtocolError("the attachments of a packet did not arrive in time"))

    def _drop_unfinished(self) -> None:
        unfinished, self._unfinished = self._unfinished, None
        if unfinished is not None and unfinished.deadline is not None:
            unfinished.deadline.cancel()

    def connect(self, namespace: str = "/", auth: Any = None) -> None:
        """The client asks to enter a namespace; ProtocolError if it is in it already."""
        if namespace in self._asked:
            raise ProtocolError("already connected to the namespace")
        if len(self._asked) >= self._host.options.max_namespaces:
            raise ProtocolError("too many namespaces")
        self._asked.append(namespace)
        if self._ended and namespace in self._ended:
            self._ended.remove(namespace)
        self._call(lambda: self._enter(namespace, auth))

    def _connect(self, packet: SioPacket) -> None:
        self.connect(packet.namespace, packet.data)

    def _enter(self, namespace: str, auth: Any) -> None:
        connection, manager = self.connection, self._host.manager
        if connection.closed:
            return
        # Where the handshake connects the default namespace it exists, also on a server that makes no use of it.
        by_itself = namespace == "/" and connection.codec.connects_by_itself
        if not by_itself and not self._host.knows(namespace):
            self._refuse(namespace, {"message": "Invalid namespace"})
            return
        recovery = self._host.recoveries.get(namespace)
        recovers = recovery is not None and connection.codec.recovers
        returned = recovery.returned(connection.sid, namespace, auth) if recovery is not None and recovers else None
        sid = connection.codec.client_id(connection.sid, namespace, self._host.new_sid())
        if returned is not None and returned.sid is not None:
            sid = returned.sid
        member = self.members[namespace] = manager.add(sid, namespace, connection)
        if recovery is not None and recovers:
            member.pid = (returned.pid if returned is not None else None) or recovery.new_pid(sid)
            auth = own_auth(auth)
        refusal = self._host.handle_connect(member, auth)
        if refusal is not None:
            del self.members[namespace]
            manager.remove(member)
            self._refuse(namespace, refusal)
            return
        self._connect_timeout.cancel()
        answer = Outgoing(connection.codec.connect_packet(namespace, sid, member.pid))
        welcome = partial(recovery.admitted, member, returned) if recovery is not None else None
        manager.admit(member, answer, welcome)
        if member.leaving:
            self._host.disconnect(sid, namespace)

    def _refuse(self, namespace: str, data: Any) -> None:
        self._forget(namespace)
        self.connection.send(Outgoing(self.connection.codec.refusal_packet(namespace, data)))
        self._refused += 1
        if self._refused > self._host.options.max_namespaces:
            self._host.logger.info("connection %s: too many refused namespaces", self.connection.label)
            self.connection.finish(Reason.TRANSPORT_ERROR)

    def _forget(self, namespace: str) -> None:
        if namespace in self._asked:
            self._asked.remove(namespace)

    def _disconnect(self, packet: SioPacket) -> None:
        self._asked.remove(packet.namespace)
        self._call(lambda: self._leave(packet.namespace, Reason.CLIENT_DISCONNECT))

    def _connect_error(self, _packet: SioPacket) -> None:
        raise ProtocolError("unexpected CONNECT_ERROR packet")

    def _acknowledgement(self, packet: SioPacket) -> None:
        """Not one of the waiting calls: a handler may wait for it."""
        member = self.members.get(packet.namespace)
        if member is None or packet.id is None:
            return
        callback = self._host.manager.take_callback(member.sid, packet.id)
        if callback is not None:
            self._host.spawn(lambda: callback(*packet.data))

    def _leave(self, namespace: str, reason: str, lost: Callable[[Member, str], None] | None = None) -> None:
        member = self.members.pop(namespace, None)
        if member is None or member.gone:
            return
        # What is published is before both or behind both.
        with self._host.manager.lock:
            if lost is not None:
                lost(member, reason)
            self._host.manager.retire(member)
        self._host.handle_disconnect(member, reason)
        self._host.manager.remove(member)

    def end_namespace(self, namespace: str, reason: str) -> bool:
        """The server ends a namespace, in the caller's context; whether the connection has none left."""
        self._forget(namespace)
        if self._ended is None:
            self._ended = []
        if namespace not in self._ended:
            self._ended.append(namespace)
        self._leave(namespace, reason)
        return not self._asked

    def close(self, last_call: Callable[[], None]) -> None:
        """The connection has ended: `last_call` has its turn after the calls that wait."""
        self._connect_timeout.cancel()
        self._drop_unfinished()
        self._call(last_call)

    def leave_all(self, reason: str) -> None:
        """The members leave their namespaces."""
        for namespace in list(self.members):
            recovery = self._host.recoveries.get(namespace)
            self._leave(namespace, reason, recovery.lost if recovery is not None else None)

    def _call(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._calls is None:
                self._calls = deque()
            self._calls.append(call)
            start, self._working = not self._working, True
        if start:
            self._host.spawn(self._work)

    def _work(self) -> None:
        turn = monotonic()
        while True:
            with self._lock:
                if not self._calls:
                    self._calls = None
                    self._working = False
                    return
                call = self._calls.popleft()
                if self._room_for_calls is not None and len(self._calls) < MAX_WAITING_CALLS // 2:
                    self.connection.release()
                    self._room_for_calls.set()
            if monotonic() - turn > SLICE_SECONDS:
                self._host.give_way()
                turn = monotonic()
            try:
                call()
            except Exception:
                self._host.logger.exception("connection %s: a call failed", self.connection.label)

    def _wait_for_room(self) -> None:
        """Who sends faster than the handlers work waits itself, instead of filling the server's memory."""
        with self._lock:
            if self._calls is None or len(self._calls) < MAX_WAITING_CALLS:
                return
            signal = self._room_for_calls = self._room_for_calls or self._host.new_signal()
            signal.clear()
            self.connection.hold()
        self.connection.transport.throttle(signal)


# What a client may send beside events.
_OTHERS: dict[SioType, Callable[[Client, SioPacket], None]] = {
    SioType.CONNECT: Client._connect,
    SioType.DISCONNECT: Client._disconnect,
    SioType.ACK: Client._acknowledgement,
    SioType.CONNECT_ERROR: Client._connect_error,
}
