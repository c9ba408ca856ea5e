"""The `position` event: how far what was sent goes (spec section 9)."""

from __future__ import annotations

from typing import Protocol

from repo_notify.engine.wire.frames import build
from repo_notify.engine.wire.outgoing import Joined, Outgoing
from repo_notify.engine.wire.packets import EioPacket, EioType

POSITION = "position"


class Kept(Protocol):
    """What the application keeps of what it sends."""

    @property
    def position(self) -> str:
        """How far that goes: printable ASCII without quotes and backslashes."""


class Positions:
    """The `position` event of one namespace, made once for each position."""

    __slots__ = ("_frame", "_framed", "_head", "_history", "_out", "_text")

    def __init__(self, namespace: str, history: Kept) -> None:
        self._head = f'2{"" if namespace == "/" else f"{namespace},"}["{POSITION}","'
        self._history = history
        self._text = self._framed = ""
        self._out: Outgoing | None = None
        self._frame = b""

    def behind(self, out: Outgoing) -> Outgoing:
        """That packet with the position of now behind it."""
        return Joined((out, self.now()), out.update)

    def now(self) -> Outgoing:
        """The event that tells the position of now."""
        text = self._history.position
        if self._out is None or text != self._text:
            self._text, self._out = text, Outgoing(EioPacket(EioType.MESSAGE, f'{self._head}{text}"]'))
        return self._out

    def frame(self) -> bytes:
        """The same as the WebSocket frame in which it leaves."""
        text = self._history.position
        if text != self._framed:
            self._framed, self._frame = text, build(f'4{self._head}{text}"]')
        return self._frame
