"""What the demo's views share: the database, the extension, who asks. One per Flask app, in `app.extensions`."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any, cast

from flask import Flask, current_app, session
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from repo_notify import RepoNotify
from repo_notify.events import Event

from .errors import NotLoggedIn

KEY = "repo_notify_demo"

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The demo's own state in one app.

    `users` is the collection of accounts in the database `admin`; `resettable` tells whether the sample data may be
    made anew.
    """

    client: MongoClient[Document]
    notify: RepoNotify
    users: Collection[Document]
    resettable: bool

    @property
    def admin(self) -> Database[Document]:
        """The database of what belongs to no teamspace."""
        return self.client["admin"]

    def attach(self, app: Flask) -> None:
        """Make this what `demo()` returns in requests to `app`."""
        app.extensions[KEY] = self


def demo() -> Demo:
    """Return the current app's Demo."""
    return cast("Demo", current_app.extensions[KEY])


def publish(event: Event) -> None:
    """Tell everyone whom `event` concerns, except the socket that the request names as its own."""
    demo().notify.publish(event)


def current_user() -> str:
    """Return who is logged in; raises NotLoggedIn."""
    user = session.get("user")
    if not user:
        raise NotLoggedIn
    return str(user["username"])


def now_ms() -> int:
    """Return the time as epoch milliseconds."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """Return a fresh UUID as a string."""
    return str(uuid.uuid4())
