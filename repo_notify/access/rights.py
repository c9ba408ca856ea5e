"""The rights that open rooms, as a table: how each is asked, and how its lack is answered (spec section 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from repo_notify.errors import ChatError, NotLoggedIn, NotPermitted, RoomNotFound
from repo_notify.protocol.rooms import Right, RoomRequest

from .permissions import ALWAYS, Permissions

_ASK: dict[Right, Callable[..., bool]] = {
    "self": lambda *_, since: True,
    "model": Permissions.may_read_model,
    "project": Permissions.may_watch_project,
    "teamspace": Permissions.administers,
}

# Existence is not revealed: a model that may not be read is not found.
_DENIALS: dict[Right, Callable[[], ChatError]] = {
    "self": NotLoggedIn,
    "model": partial(RoomNotFound, RoomNotFound.MODEL),
    "project": partial(RoomNotFound, RoomNotFound.PROJECT),
    "teamspace": NotPermitted,
}


def denial(right: Right) -> ChatError:
    """Return what is answered to a user who lacks the right."""
    return _DENIALS[right]()


def is_allowed(permissions: Permissions, username: str, request: RoomRequest, *, since: float = ALWAYS) -> bool:
    """Return whether the user has the right that opens the room; raises `PermissionsUnavailable`.

    `since` is the monotonic time before which no answer is believed.
    """
    return _ASK[request.right](permissions, username, *request.where, since=since)
