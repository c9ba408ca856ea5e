"""The rights that open rooms, as a table: how each is asked, and how its lack is answered (spec section 3)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from repo_notify.errors import ChatError, NotLoggedIn, NotPermitted, RoomNotFound
from repo_notify.protocol.rooms import Right, RoomRequest

from .permissions import ALWAYS, AccessChecker, Permissions

logger = logging.getLogger(__name__)

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
    """Return whether the user has the right that opens the room, and the host's checker agrees.

    Raises `PermissionsUnavailable`.
    `since` is the monotonic time before which no answer is believed.
    """
    granted = _ASK[request.right](permissions, username, *request.where, since=since)
    if not granted or not request.where or permissions.checker is None:
        return granted
    teamspace, project, model = (*request.where, None, None)[:3]
    return _host_agrees(permissions.checker, username, str(teamspace), project, model)


def _host_agrees(
    checker: AccessChecker, username: str, teamspace: str, project: str | None, model: str | None
) -> bool:
    try:
        found: object = checker(username, teamspace, project, model)
    # A host's code may raise anything, and lets nobody in by that.
    except Exception:
        logger.exception("the access checker failed; the room is refused")
        return False
    if not isinstance(found, bool):
        # A coroutine, for one, would be true for everybody.
        logger.error("the access checker should return True or False, not %s; refused", type(found).__name__)
    return found is True
