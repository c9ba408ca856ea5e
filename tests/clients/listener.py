"""A JavaScript client as a listener: what it has heard since it was last asked."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from tests.clients.harness import JsSocket

Json = Any


@dataclass
class Listener:
    """One socket in one namespace."""

    socket: JsSocket
    _seen: int = 0
    _barriers: itertools.count[int] = field(default_factory=itertools.count)

    def ask(self, action: str, asked: Json) -> Json:
        """Emit and return the acknowledgement."""
        (reply,) = self.socket.call(action, asked)
        return reply

    def heard(self) -> list[tuple[str, list[Json]]]:
        """Every event since the last time, up to the answer to a question asked now."""
        asked = {"barrier": next(self._barriers)}
        self.ask("leave", asked)
        self.socket.wait_for("error", lambda told: told["details"]["data"] == asked)
        events = self.socket.events[self._seen :]
        self._seen += len(events)
        # The barrier's own refusal, which v4's namespace tells in both ways.
        told = 2 if len(events) > 1 and events[-2].name == "credentialError" else 1
        return [(event.name, event.args) for event in events[:-told]]
