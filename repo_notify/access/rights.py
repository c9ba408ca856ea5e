"""The rights that open rooms, as a table: how each is asked, and how its lack is answered (PROTOCOL section 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from repo_notify.errors import ChatError, NotLoggedIn, NotPermitted, RoomNotFound
from repo_notify.protocol.rooms import Claim, Right

from .permissions import Permissions

_ASK: dict[Right, Callable[..., bool]] = {
    "self": lambda *_: True,
    "model": Permissions.may_read_model,
    "project": Permissions.may_watch_project,
    "teamspace": Permissions.administers,
}

# Existence is not revealed: a model that may not be read is not found.
_REFUSALS: dict[Right, Callable[[], ChatError]] = {
    "self": NotLoggedIn,
    "model": partial(RoomNotFound, RoomNotFound.MODEL),
    "project": partial(RoomNotFound, RoomNotFound.PROJECT),
    "teamspace": NotPermitted,
}


def refusal(right: Right) -> ChatError:
    """Return what is answered to a user who lacks the right."""
    return _REFUSALS[right]()


def may(permissions: Permissions, username: str, claim: Claim) -> bool:
    """Whether the user has the right that opens a claimed room; raises `PermissionsUnavailable`."""
    return _ASK[claim.right](permissions, username, *claim.where)
