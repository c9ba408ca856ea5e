"""Logged-in users of one served app and their connections, opened once and shared."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.chat import ChatClient
from tests.support.served import Served, User

LEGACY = "/legacy_v4"


@dataclass
class People:
    """Who uses a served app; the user None is nobody, who is not logged in."""

    served: Served
    _users: dict[str, User] = field(default_factory=dict)
    _clients: dict[tuple[str | None, str, str], ChatClient] = field(default_factory=dict)

    def user(self, name: str) -> User:
        """A logged-in user of the REST API."""
        if name not in self._users:
            self._users[name] = User(self.served).log_in(name)
        return self._users[name]

    def connect(self, name: str | None, *, transport: str = "websocket", namespace: str = "/") -> ChatClient:
        """A new connection of that user, which the caller closes."""
        cookie = self.user(name).cookie if name is not None else ""
        return ChatClient(self.served.url, cookie=cookie, transports=(transport,), namespace=namespace)

    def client(self, name: str | None, *, transport: str = "websocket", namespace: str = "/") -> ChatClient:
        """That user's shared connection, which is in no room and has heard nothing yet."""
        key = (name, transport, namespace)
        if key not in self._clients:
            self._clients[key] = self.connect(name, transport=transport, namespace=namespace)
        self._clients[key].heard_so_far()
        return self._clients[key]

    def close(self) -> None:
        """Close every shared connection."""
        for client in self._clients.values():
            client.close()
