"""Members: connections in namespaces."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from repo_notify.engine.engine_io.connection import Connection
from repo_notify.engine.wire.outgoing import Outgoing

Callback = Callable[..., Any]


class Held(list[Outgoing]):
    """What is sent to a member before its CONNECT is answered, and its size."""

    size = 0


class Member:
    """One connection in one namespace. `held` has what was sent before its CONNECT is answered; None afterwards."""

    __slots__ = ("callbacks", "connection", "gone", "held", "last_id", "leaving", "namespace", "rooms", "sid")

    def __init__(self, sid: str, namespace: str, connection: Connection) -> None:
        self.sid = sid
        self.namespace = namespace
        self.connection = connection
        self.rooms: set[Hashable] = set()
        self.held: Held | None = Held()
        self.callbacks: dict[int, Callback] | None = None
        self.last_id = 0
        self.leaving = False
        self.gone = False
