"""Who is in which namespace and room: two mirrored maps, room to members and member to rooms, and their fan-out."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any

from repo_notify.engine.engine_io.connection import Connection
from repo_notify.engine.engine_io.flush import FlushBatch
from repo_notify.engine.engine_io.raw_sockets import RawTransport
from repo_notify.engine.engine_io.timers import Lock
from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.outgoing import Outgoing
from repo_notify.engine.wire.packets import EventData, SioPacket, SioType

from .fanout import FastPath
from .members import Callback, Changed, Member, Namespace, RoomMembers
from .positions import Kept, Positions

# How many members of a room are taken at a time.
PIECE = 200


def _listed(several: Any) -> list[Any]:
    """None as nothing, one as a list of one; lists, tuples and sets are several."""
    if several is None:
        return []
    return list(several) if isinstance(several, (list, tuple, set, frozenset)) else [several]


def _send_each(members: Iterable[Member], out: Outgoing, positions: Positions | None) -> int:
    """Send one packet to many; returns to how many, those who are gone and not removed yet among them.

    What cannot be encoded is the caller's mistake and shows at the first of them.
    """
    sent = 0
    positioned: Outgoing | None = None
    wires: dict[Codec, bytes] = {}
    batch: FlushBatch[RawTransport] | None = None
    for member in members:
        connection = member.connection
        transport = connection.transport
        if type(transport) is RawTransport and member.is_direct:
            data = wires.get(connection.codec)
            if data is None:
                data = wires[connection.codec] = out.wire(connection.codec)
            if member.told and positions is not None and not transport.follow(positions):
                positioned = positioned or positions.behind(out)
                data = positioned.wire(connection.codec)
            transport.push(data, out.update)
            sent += 1
            batch = transport.batch
        else:
            positioned = positioned or (positions.behind(out) if positions is not None else out)
            sent += member.deliver(out, positioned)
    if batch is not None:
        batch.begin()
    return sent


class RoomManager:
    """What python-socketio calls a client manager, without its maps' growing costs.

    What python-socketio and Flask-SocketIO call keeps its name and signature; `deliver` is emit with a count, `fan_out`
    the way on which both send to rooms.
    A member's own id is a room of one, which nobody else can enter.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock: Lock = threading.RLock()
        self._namespaces: dict[str, Namespace] = {}
        # By namespace: the application that keeps what it sends there.
        self._positions: dict[str, Positions] = {}
        self._changed: dict[str, Changed | None] = {}

    @property
    def lock(self) -> Lock:
        """What keeps publications, and admissions, apart."""
        return self._lock

    def keep_positions(self, namespace: str, history: Kept, changed: Changed | None = None) -> None:
        """Have members of a namespace told how far they are; before anybody connects.

        `changed` is told of members whose rooms have changed, and of those that are gone.
        """
        self._positions[namespace] = Positions(namespace, history)
        self._changed[namespace] = changed

    def set_server(self, server: Any) -> None:
        """Called once by the server, before anybody connects."""
        self._lock = server.eio.new_lock()

    def initialize(self) -> None:
        """Called before the first request; nothing to do."""

    def get_namespaces(self) -> list[str]:
        """The namespaces that have members."""
        return list(self._namespaces)

    @property
    def rooms(self) -> dict[str, dict[Hashable, RoomMembers]]:
        """Each namespace's rooms and their members, to look at."""
        return {name: space.rooms for name, space in list(self._namespaces.items())}

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        """The members of a room (None: the namespace) or of several, each once: pairs of own id and Engine.IO id."""
        for member in self._select(namespace, room, frozenset()):
            yield member.sid, member.connection.sid

    def all_of(self, namespace: str) -> list[Member]:
        """The members of a namespace."""
        return self._select(namespace, None, ())

    def members_of(self, namespace: str, room: Hashable) -> Iterator[Member]:
        """Yield the members of a room that is nobody's id, also those that are about to be removed.

        Those who are in it all the while come once at least, whoever comes and goes: they are taken from the end, and
        who takes the place of one that has left has been taken.
        """
        end = sys.maxsize
        while end:
            with self._lock:
                space = self._namespaces.get(namespace)
                members = space.rooms.get(room) if space is not None else None
                if members is None:
                    return
                end = min(end, len(members))
                piece = members.before(end, PIECE)
            end -= len(piece)
            while piece:
                yield piece.pop()

    def has_members(self, namespace: str, room: Hashable) -> bool:
        """Whether a room that is nobody's id has members."""
        space = self._namespaces.get(namespace)
        return space is not None and room in space.rooms

    def member(self, sid: str, namespace: str) -> Member | None:
        """The member of that id, whether connected or still connecting."""
        space = self._namespaces.get(namespace)
        return space.members.get(sid) if space else None

    def find(self, sid: str) -> Member | None:
        """The member of that id in whichever namespace."""
        for space in list(self._namespaces.values()):
            member = space.members.get(sid)
            if member is not None:
                return member
        return None

    def is_connected(self, sid: str, namespace: str) -> bool:
        """Whether the member's CONNECT was answered and its disconnection has not begun."""
        member = self.member(sid, namespace)
        return member is not None and member.held is None and not member.gone

    can_disconnect = is_connected

    def member_of(self, connection_id: str, namespace: str) -> Member | None:
        """The member of a namespace on the connection with that Engine.IO id."""
        space = self._namespaces.get(namespace)
        return space.by_connection.get(connection_id) if space else None

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        """The id in a namespace of the connection with that Engine.IO id."""
        member = self.member_of(eio_sid, namespace)
        return member.sid if member else None

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        """The Engine.IO id of a member."""
        member = self.member(sid, namespace)
        return member.connection.sid if member else None

    def add(self, sid: str, namespace: str, connection: Connection) -> Member:
        """Register a connection in a namespace; what is sent to it is held until `admit`."""
        with self._lock:
            space = self._namespaces.get(namespace)
            if space is None:
                space = self._namespaces[namespace] = Namespace(
                    self._lock, self._logger, self._positions.get(namespace), self._changed.get(namespace)
                )
            member = Member(sid, namespace, connection, space)
            space.members[sid] = member
            space.by_connection[connection.sid] = member
        return member

    def admit(self, member: Member, answer: Outgoing, welcome: Callable[[], None] | None = None) -> None:
        """Send the answer to a CONNECT, what `welcome` sends, and then what was held."""
        with self._lock:
            held, member.held = member.held or (), None
            member.connection.send(answer)
            if welcome is not None:
                welcome()
            for out in held:
                member.send(out)

    def retire(self, member: Member) -> None:
        """Send nothing more to a member, which is about to be removed."""
        with self._lock:
            member.gone = True
            member.leave_fast_paths()

    def remove(self, member: Member) -> None:
        """Forget a member; costs its own rooms only."""
        with self._lock:
            space = self._namespaces.get(member.namespace)
            if space is None or space.members.get(member.sid) is not member:
                return
            for room in list(member.rooms):
                member.leave(room)
            del space.members[member.sid]
            del space.by_connection[member.connection.sid]
            member.callbacks = None
            if not space.members:
                del self._namespaces[member.namespace]
            if space.changed is not None:
                space.changed(member)

    def enter_room(self, sid: str, namespace: str, room: Hashable) -> None:
        """Put a member into a room; ValueError if there is no such member, or the room is another member's id."""
        with self._lock:
            member = self.member(sid, namespace)
            if member is None:
                raise ValueError("sid is not connected to requested namespace")
            if room == sid:
                return
            if room in self._namespaces[namespace].members:
                raise ValueError("cannot enter a sid room")
            member.enter(room)

    def leave_room(self, sid: str, namespace: str, room: Hashable) -> None:
        """Take a member out of a room, if it is in it."""
        member = self.member(sid, namespace)
        if member is not None:
            member.leave(room)

    def close_room(self, room: Hashable, namespace: str) -> None:
        """Take everybody out of a room; ValueError if it is a member's id."""
        with self._lock:
            space = self._namespaces.get(namespace)
            if space is None:
                return
            if room in space.members:
                raise ValueError("cannot close a sid room")
            for member in list(space.rooms.get(room, ())):
                member.leave(room)

    def get_rooms(self, sid: str, namespace: str) -> list[Hashable]:
        """The rooms of a member, its own id among them."""
        member = self.member(sid, namespace)
        return [] if member is None else [sid, *member.rooms]

    def emit(
        self, event: str, data: Any, namespace: str, room: Any = None, skip_sid: Any = None,
        callback: Callback | None = None, to: Any = None, ignore_queue: bool = False,
    ) -> None:
        """As `deliver`, in python-socketio's signature; there is no queue to ignore."""
        del ignore_queue
        self.deliver(event, data, namespace, room=to if to is not None else room, skip_sid=skip_sid, callback=callback)

    def deliver(
        self, event: str, data: Any, namespace: str = "/", *, room: Any = None, skip_sid: Any = None,
        callback: Callback | None = None,
    ) -> int:
        """Send an event to a room or rooms (None: the namespace), once per member; returns to how many.

        A tuple is several arguments, None none. `skip_sid`: one or several of any ids of connections. `callback` gets
        each member's acknowledgement. TypeError or ValueError when `data` is not JSON; a failing recipient is logged.
        """
        space = self._namespaces.get(namespace)
        if space is None:
            return 0
        arguments = list(data) if isinstance(data, tuple) else [] if data is None else [data]
        packet = SioPacket(SioType.EVENT, namespace, data=[event, *arguments])
        skip = _listed(skip_sid)
        rooms = _listed(room)
        if room is None or callback is not None or len(skip) > 1 or not space.members.keys().isdisjoint(rooms):
            members = self._select(namespace, room, frozenset(skip))
            if callback is None:
                return _send_each(members, Outgoing(packet), space.positions)
            return sum([
                _send_each([member], Outgoing(self._asking(packet, member, callback)), space.positions)
                for member in members
            ])
        with self._lock:
            return self.fan_out((namespace,), packet.data, rooms, skip[0] if skip else None)

    def fan_out(
        self, namespaces: Iterable[str], data: Any, rooms: Sequence[Hashable], skip: str | None = None
    ) -> int:
        """Send an event's data to the members of rooms that are nobody's id, once each; returns to how many.

        That is done in each of the namespaces, within `lock`. The connection that has the id `skip`, be it its own or
        in the namespace, is left out.
        """
        update = data.update if isinstance(data, EventData) else None
        total = 0
        for namespace in namespaces:
            space = self._namespaces.get(namespace)
            if space is None:
                continue
            # Most events go to one room: a list of those that are there takes longer than all else here.
            found = rooms if len(rooms) == 1 else [room for room in rooms if room in space.rooms]
            if not found or found[0] not in space.rooms:
                continue
            out = Outgoing(SioPacket(SioType.EVENT, namespace, None, data))
            if update is not None:
                # A connection may be in several namespaces.
                out.update = namespace, update
            sent = None
            if len(found) == 1:
                path: FastPath | None = space.fast_paths.get(found[0])
                if path is None or (path.others and path.is_outdated):
                    path = space.fast_paths[found[0]] = FastPath(space.rooms[found[0]])
                sent = path.send(out, space.by_any_id(skip) if skip is not None else None, space.positions)
            if sent is None:
                members = self._select(namespace, found, () if skip is None else (skip,))
                sent = _send_each(members, out, space.positions)
            total += sent
        return total

    def _asking(self, packet: SioPacket, member: Member, callback: Callback | None) -> SioPacket:
        with self._lock:
            member.last_id += 1
            if callback is not None:
                member.callbacks = member.callbacks or {}
                member.callbacks[member.last_id] = callback
            return SioPacket(packet.type, packet.namespace, member.last_id, packet.data)

    def _select(self, namespace: str, room: Any, skip: Collection[str]) -> list[Member]:
        """The one selection under every fan-out: union of rooms, each member once, without those to skip."""
        with self._lock:
            space = self._namespaces.get(namespace)
            if space is None:
                return []
            if not skip and isinstance(room, str) and room not in space.members:
                return [member for member in space.rooms.get(room, ()) if not member.gone]
            if room is None:
                found = space.members
            else:
                found = {}
                for name in _listed(room):
                    own = space.members.get(name)
                    found.update({member.sid: member for member in ([own] if own else space.rooms.get(name, ()))})
            return [
                member for member in found.values()
                if not member.gone and member.sid not in skip and member.connection.sid not in skip
            ]

    def trigger_callback(self, sid: str, id: int, data: list[Any]) -> None:  # noqa: A002 - python-socketio's signature
        """Hand an acknowledgement to who waits for it; an unknown one is ignored."""
        callback = self.take_callback(sid, id)
        if callback is not None:
            callback(*data)

    def take_callback(self, sid: str, ack_id: int) -> Callback | None:
        """Who waits for that acknowledgement of that member, once."""
        member = self.find(sid)
        return member.callbacks.pop(ack_id, None) if member and member.callbacks else None
