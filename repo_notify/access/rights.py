"""The rights that open rooms, as a table: how each is asked, and how its lack is answered (spec section 3)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from repo_notify.errors import ChatError, NotLoggedIn, NotPermitted, RoomNotFound
from repo_notify.protocol.rooms import Right

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


class Decision(NamedTuple):
    """Whether a user may enter a room; `checker` is what the host's access checker did, empty if not asked."""

    allowed: bool
    checker: str = ""


_GRANTED, _LACKING = Decision(True), Decision(False)


def decide(
    permissions: Permissions, username: str, right: Right, where: tuple[str | None, ...], *, since: float = ALWAYS
) -> Decision:
    """Return whether the user has the right that opens a room, and the host's checker agrees.

    Raises `PermissionsUnavailable`.
    `where` holds the look-up's ids, `since` is the monotonic time before which no answer is believed.
    """
    if not _ASK[right](permissions, username, *where, since=since):
        return _LACKING
    if not where or permissions.checker is None:
        return _GRANTED
    teamspace, project, model = (*where, None, None)[:3]
    return _host_agrees(permissions.checker, username, str(teamspace), project, model)


def _host_agrees(
    checker: AccessChecker, username: str, teamspace: str, project: str | None, model: str | None
) -> Decision:
    try:
        found: object = checker(username, teamspace, project, model)
    # A host's code may raise anything, and lets nobody in by that.
    except Exception as error:
        logger.exception("the access checker failed; the room is refused")
        return Decision(False, f"raised {type(error).__name__}")
    if not isinstance(found, bool):
        # A coroutine, for one, would be true for everybody.
        logger.error("the access checker should return True or False, not %s; refused", type(found).__name__)
        return Decision(False, f"returned neither True nor False, but {type(found).__name__}")
    return Decision(found, f"returned {found}")
