"""What an app publishes, kept for a test instead of delivered."""

from __future__ import annotations

from typing import TypeVar

from repo_notify.events import Event

E = TypeVar("E", bound=Event)


class RecordedEvents(list[Event]):
    """The events of one recording, in order: checked, with plain values, as they would go out."""

    def __init__(self, *, deliver: bool) -> None:
        super().__init__()
        self.deliver = deliver

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of that type."""
        return [event for event in self if isinstance(event, kind)]
