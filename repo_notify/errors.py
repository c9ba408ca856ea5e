"""What can go wrong, as a tree; each leaf a client may see carries its wire reply.

NotifyError
    ChatError            a client's join or leave is answered with it (spec section 3)
        NotLoggedIn
        NotPermitted
        RoomNotFound
        PermissionsUnavailable
        UnknownEvent
    InvalidEvent         the caller published something that is no event
    SettingsError        the configuration is wrong; the start stops
    NotMonkeyPatched     gevent mode in a process that gevent has not patched
    NotInitialised       no app is at hand, or the app has no extension
    QueueUnavailable     the message queue cannot be reached
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class NotifyError(Exception):
    """The root of everything that this package raises on purpose."""


class ChatError(NotifyError):
    """A refusal that is told to the client; `code` and `str(error)` are its wire reply (spec section 3)."""

    code: ClassVar[str]

    def reply(self) -> dict[str, Any]:
        """Return `{code, message}`, as both wire generations carry it."""
        return {"code": self.code, "message": str(self)}


class NotLoggedIn(ChatError):
    """The socket is bound to no user."""

    code = "UNAUTHORISED"

    def __str__(self) -> str:
        return "You are not logged in"


class NotPermitted(ChatError):
    """The user has no right to a whole teamspace."""

    code = "UNAUTHORISED"

    def __str__(self) -> str:
        return "You are not authorised to listen to this teamspace"


class RoomNotFound(ChatError):
    """There is no such room for this user; `thing` says which part of the object was not found."""

    code = "ROOM_NOT_FOUND"
    MODEL: ClassVar[str] = "Model not found"
    PROJECT: ClassVar[str] = "Project not found"
    UNKNOWN: ClassVar[str] = "Cannot identify the room indicated"


class PermissionsUnavailable(ChatError):
    """The database did not answer in time; nobody is let in unchecked."""

    code = "SERVICE_UNAVAILABLE"

    def __str__(self) -> str:
        return "Permissions cannot be checked right now"


class UnknownEvent(ChatError):
    """The client emitted an event that means nothing here."""

    code = "UNKNOWN_EVENT"

    def __str__(self) -> str:
        return "There is no such event; join and leave are understood"


class InvalidEvent(NotifyError, ValueError):
    """An event that cannot be published; `fields` maps each wrong field to what it should be."""

    def __init__(self, event: str, fields: Mapping[str, str]) -> None:
        super().__init__(event, fields)
        self.event = event
        self.fields = dict(fields)

    def __str__(self) -> str:
        return f"{self.event}: " + "; ".join(f"{field}: {problem}" for field, problem in self.fields.items())


class SettingsError(NotifyError, ValueError):
    """The configuration is wrong; `problems` holds one sentence per key, which names it and what it should be."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class NotMonkeyPatched(NotifyError, RuntimeError):
    """gevent mode needs a process whose blocking calls gevent has replaced."""

    def __str__(self) -> str:
        return (
            "repo_notify runs on gevent, but gevent has not patched this process, "
            "so that one slow call would stop everybody. "
            "Make `from gevent import monkey; monkey.patch_all()` the very first line of the program, "
            "before anything else is imported (gunicorn's gevent workers do it by themselves), "
            "or set REPO_NOTIFY_ASYNC_MODE = 'threading' to run on threads."
        )


class NotInitialised(NotifyError, RuntimeError):
    """The extension was used where it cannot know which app is meant."""


class QueueUnavailable(NotifyError):
    """The message queue cannot be reached; the text says which and why."""
