"""One client that recovers, without its socket: bytes in, bytes out.

It does what socket.io-client 4.6 does for connection state recovery (`lib/socket.ts`), over WebSocket, in the default
namespace: it names its `pid` and the offset of what it heard last, and joins its rooms again where that was refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.audience import LoadError
from benchmarks.load.frames import PING, PONG, TEXT, masked, take_frames

# A numbered event (`benchmarks.peers.Order.places`).
TICKET = "containerNewTicket"
END_OF_HEADERS = b"\r\n\r\n"
SWITCHING = b"HTTP/1.1 101"


class HandshakeRefused(LoadError):
    """The answer to a handshake was no 101; the text shows it."""


@dataclass(frozen=True)
class Ticket:
    """A numbered event; it was due at `due`, in ns of CLOCK_MONOTONIC."""

    number: int
    due: int


@dataclass
class Recovering:
    """A client over all its connections: `handshake` begins one, the frames of `joins` bring it into its rooms.

    `connects` counts the answers to its CONNECT packets, `recoveries` those of them that recovered it. `entered` says
    whether it is in all its rooms, `gaps` why it was told that something is missing.
    """

    handshake: bytes
    joins: Sequence[bytes]
    connects: int = 0
    recoveries: int = 0
    entered: bool = False
    gaps: list[str] = field(default_factory=list)
    _pid: str | None = None
    _offset: str | None = None
    _connected: bool = False
    _granted: int = 0
    _upgraded: bool = False
    _received: bytearray = field(default_factory=bytearray)
    _early: list[list[Any]] = field(default_factory=list)

    def begin(self) -> bytes:
        """Begin a connection; return what to send first."""
        self.entered = self._connected = self._upgraded = False
        self._received.clear()
        return self.handshake

    def receive(self, data: bytes) -> tuple[bytes, list[Ticket]]:
        """Return what to send, and the tickets heard; raises `LoadError` where no client would go on."""
        self._received += data
        if not self._upgraded and not self._upgrade():
            return b"", []
        answer, tickets = b"", []
        for opcode, payload in take_frames(self._received):
            if opcode == PING:
                answer += masked(payload, PONG)
            # What the server says when it closes is not heard: the end of the connection follows.
            elif opcode == TEXT:
                reply, heard = self._packet(payload)
                answer += reply
                tickets += heard
        return answer, tickets

    def _upgrade(self) -> bool:
        """Whether the handshake is done."""
        head, end, rest = self._received.partition(END_OF_HEADERS)
        if end and not head.startswith(SWITCHING):
            raise HandshakeRefused(f"a client was refused: {bytes(head[:300])!r}")
        if end:
            self._upgraded, self._received = True, bytearray(rest)
        return self._upgraded

    def _packet(self, payload: bytes) -> tuple[bytes, list[Ticket]]:
        """Handle one Engine.IO packet; return the answer and the tickets heard."""
        kind, rest = payload[:2], payload[2:]
        if kind == b"42":
            return b"", self._event(json.loads(rest))
        if kind == b"40":
            return self._connect(json.loads(rest))
        if kind[:1] == b"0":
            return masked(b"40" + self._session()), []
        if kind[:1] == b"2":
            return masked(b"3" + payload[1:]), []
        if kind in (b"41", b"44"):
            raise LoadError(f"a client was refused: {payload[:300]!r}")
        return b"", []

    def _session(self) -> bytes:
        """Return the session that is to be recovered, as a CONNECT packet carries it."""
        if self._pid is None:
            return b""
        known = {"pid": self._pid} | ({} if self._offset is None else {"offset": self._offset})
        return json.dumps(known, separators=(",", ":")).encode()

    def _connect(self, session: dict[str, str]) -> tuple[bytes, list[Ticket]]:
        pid = session.get("pid")
        recovered = pid is not None and pid == self._pid
        self._pid, self._connected = pid, True
        self.connects += 1
        self.recoveries += recovered
        self.entered = recovered
        self._granted = 0
        early, self._early = self._early, []
        tickets = [ticket for arguments in early for ticket in self._event(arguments)]
        return b"" if recovered else b"".join(self.joins), tickets

    def _event(self, arguments: list[Any]) -> list[Ticket]:
        """Handle an event and its name; return the ticket that it is, if it is one."""
        if not self._connected:
            # Node replays before it answers the CONNECT. The reference client keeps these, even over a lost connection.
            self._early.append(arguments)
            return []
        if self._pid is not None and isinstance(arguments[-1], str):
            self._offset = arguments[-1]
        if arguments[0] == TICKET:
            data = arguments[1]["data"]
            return [Ticket(int(data["_id"]), int(data["at"]))]
        if arguments[0] == "error":
            raise LoadError(f"a client was refused: {arguments}")
        if arguments[0] == "message" and arguments[1].get("event") == "success":
            self._granted += 1
            self.entered = self._granted >= len(self.joins)
        if arguments[0] == "message" and arguments[1].get("event") == "gap":
            self.gaps.append(arguments[1]["data"]["reason"])
        return []
