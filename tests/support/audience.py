"""A teamspace with listeners in it: who hears what of a published event."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.support.chat import ChatClient, Heard
from tests.support.people import People
from tests.support.teamspaces import Teamspace


@dataclass
class Place:
    """Two projects of one teamspace with two models in the first; its account may enter every room of it."""

    teamspace: Teamspace
    model: str = field(init=False)
    other_model: str = field(init=False)
    project: str = field(init=False)
    other_project: str = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.other_model = self.teamspace.model(), self.teamspace.model()
        self.project = self.teamspace.project([self.model, self.other_model])
        self.other_project = self.teamspace.project()

    @property
    def name(self) -> str:
        return self.teamspace.name

    @property
    def in_model(self) -> dict[str, str]:
        """The model's room, and the ids of its events."""
        return {"teamspace": self.name, "project": self.project, "model": self.model}

    @property
    def in_project(self) -> dict[str, str]:
        """The project's room, and the ids of its events."""
        return {"teamspace": self.name, "project": self.project}


@dataclass
class Audience:
    """Connections by name; each is in the rooms that it was given."""

    people: People
    _stack: ExitStack = field(default_factory=ExitStack)
    listeners: dict[str, ChatClient] = field(default_factory=dict)

    def add(self, name: str, user: str, *rooms: Any, transport: str = "websocket", namespace: str = "/") -> ChatClient:
        """Have `user` listen in these rooms."""
        client = self.adopt(name, self.people.connect(user, transport=transport, namespace=namespace))
        for room in rooms:
            client.join(room)
        return client

    def adopt(self, name: str, client: ChatClient) -> ChatClient:
        """Have a connection listen that is there already."""
        self._stack.callback(client.close)
        self.listeners[name] = client
        return client

    def heard(self) -> Mapping[str, list[Heard]]:
        """What each listener has heard since the last time; who heard nothing is left out."""
        heard = {name: client.heard_so_far() for name, client in self.listeners.items()}
        return {name: events for name, events in heard.items() if events}

    def close(self) -> None:
        self._stack.close()
