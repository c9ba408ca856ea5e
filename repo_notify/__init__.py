"""Real-time notifications for a Flask REST API in 3D Repo's shape.

from repo_notify import RepoNotify, events
notify = RepoNotify(app)
notify.publish(events.IssuesCreated(teamspace="acme", model=model_id, issues=[issue]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import QueuePublisher
    from .errors import InvalidEvent, NotifyError, QueueUnavailable, SettingsError
    from .extension import RepoNotify
    from .sessions.host_users import flask_login_user

__version__ = "0.1.0"

__all__ = [
    "InvalidEvent",
    "NotifyError",
    "QueuePublisher",
    "QueueUnavailable",
    "RepoNotify",
    "SettingsError",
    "__version__",
    "flask_login_user",
]

# Loaded on first use: a program imports this package before gevent has patched what the modules import.
_HOMES = {
    "InvalidEvent": "errors",
    "NotifyError": "errors",
    "QueuePublisher": "client",
    "QueueUnavailable": "errors",
    "RepoNotify": "extension",
    "SettingsError": "errors",
    "flask_login_user": "sessions.host_users",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
