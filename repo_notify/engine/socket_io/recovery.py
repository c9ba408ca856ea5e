"""What an application keeps so that a client which lost its connection misses nothing: the engine's part of it.

The application has the history and knows who somebody was; the engine gives out the secret by which a client comes
back, tells the position behind whatever it sends, and holds live events back while a client catches up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from .members import Member
from .positions import Kept

# By these a client says who it was and how far it is; whatever else its CONNECT brings is the application's.
_OURS = frozenset({"pid", "offset"})


def own_auth(auth: Any) -> Any:
    """Return what a connect handler sees of a CONNECT's data: what the page's own program put there."""
    return {key: value for key, value in auth.items() if key not in _OURS} if isinstance(auth, dict) else auth


class Returned(NamedTuple):
    """Who comes back: the id and the secret of before, and what the application needs for it once it is admitted.

    Without an id it is somebody new, of whom the application has something to say all the same.
    """

    sid: str | None
    pid: str | None
    kept: Any


class Recovery(Protocol):
    """What a namespace asks of the application whose events are kept.

    `changed`, where there is one, is told of members whose rooms have changed, and of those that are gone.
    """

    changed: Callable[[Any], None] | None

    @property
    def history(self) -> Kept:
        """What is kept of what was sent."""

    def new_pid(self, sid: str) -> str:
        """Return a secret by which the client with that id may come back."""

    def returned(self, connection_id: str, namespace: str, auth: Any) -> Returned | None:
        """Return who comes back by what the CONNECT brought; may wait, and ends that client's older connection."""

    def admitted(self, member: Member, returned: Returned | None) -> None:
        """The answer to the CONNECT has been sent, and nothing else; must not wait."""

    def lost(self, member: Member, reason: str) -> None:
        """The connection of a member ended, and not because the member left or was sent away."""
