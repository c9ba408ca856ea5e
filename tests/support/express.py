"""An Express app's sessions, as express-session signs their cookies and stores them in MongoDB."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from pymongo import MongoClient

COOKIE = "connect.sid"
SECRET = "an Express app's own"


def sign(session_id: str, secret: str = SECRET) -> str:
    """As the Node package `cookie-signature`."""
    digest = hmac.new(secret.encode(), session_id.encode(), hashlib.sha256).digest()
    return f"{session_id}.{base64.b64encode(digest).decode().rstrip('=')}"


def cookie(session_id: str, secret: str = SECRET, name: str = COOKIE) -> str:
    """Return the `Cookie` header of a browser that has this session."""
    return f"{name}={quote(f's:{sign(session_id, secret)}', safe='')}"


class ExpressStore:
    """A collection of sessions; `config` is what a service is configured with to read them."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self.name = f"sessions_{secrets.token_hex(4)}"
        self._sessions = client["admin"][self.name]
        self.config: dict[str, Any] = {
            "SESSION_COOKIE_NAME": COOKIE,
            "REPO_NOTIFY_EXPRESS_SECRET": SECRET,
            "REPO_NOTIFY_EXPRESS_SESSIONS": f"admin.{self.name}",
        }

    def log_in(self, username: str, **options: Any) -> str:
        """Store a session of that user, as `save`; return its id."""
        return self.save({"cookie": {"path": "/"}, "user": {"username": username, "webSession": True}}, **options)

    def save(self, session: Any, *, session_id: str | None = None, seconds: float | None = 3600, **more: Any) -> str:
        """Store a session that runs out in so many seconds, or never; return its id."""
        session_id = session_id or secrets.token_urlsafe(24)
        document = {"_id": session_id, "session": session, **more}
        if seconds is not None:
            document.setdefault("expires", datetime.now(timezone.utc) + timedelta(seconds=seconds))
        self._sessions.replace_one({"_id": session_id}, document, upsert=True)
        return session_id

    def save_as_json(self, session: Any) -> str:
        """As `save`, the way of stores that keep it as text."""
        return self.save(session if isinstance(session, str) else json.dumps(session))

    def insert(self, document: dict[str, Any]) -> str:
        """Store a document as it is."""
        self._sessions.insert_one(document)
        return str(document["_id"])

    def delete(self, session_id: str) -> None:
        """Delete a session."""
        assert self._sessions.delete_one({"_id": session_id}).deleted_count == 1

    def drop(self) -> None:
        """Delete all of them."""
        self._sessions.drop()
