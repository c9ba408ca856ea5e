"""The wire: a Socket.IO server of our own, to the letter of the protocol documents.

    Server       python-socketio's API on the parts below; what Flask-SocketIO gets as its `server`
    RoomManager  who is in which namespace and room, and the fan-out: `server.manager.deliver(...)` tells to how many
    Connection   one Engine.IO session: `sid`, `environ`, `codec.eio`, `transport.name`; in `server.eio.sockets`
    Options      everything that a server may be told: `Server(Options(ping_interval=10))`
    Codec        what a protocol generation has to say; `Options(codecs=(…))` adds some

`pywsgi.handler.WebSocketHandler` and `pywsgi.server.LazySocketServer` serve WebSockets under
gevent, and import it.
"""

from __future__ import annotations

from .engine_io.backlog import OutboxLimits
from .engine_io.connection import Connection, Reason
from .engine_io.options import Options
from .socket_io.manager import RoomManager
from .socket_io.members import Member
from .socket_io.server import Server
from .wire.codec import Body, Codec, EngineIO4
from .wire.errors import EngineError, ErrorCode, ProtocolError, RequestError
from .wire.outgoing import Kept, Outgoing
from .wire.packets import EioPacket, EioType, SioPacket, SioType, Spelling

__all__ = [
    "Body",
    "Codec",
    "Connection",
    "EioPacket",
    "EioType",
    "EngineError",
    "EngineIO4",
    "ErrorCode",
    "Kept",
    "Member",
    "Options",
    "OutboxLimits",
    "Outgoing",
    "ProtocolError",
    "Reason",
    "RequestError",
    "RoomManager",
    "Server",
    "SioPacket",
    "SioType",
    "Spelling",
]
