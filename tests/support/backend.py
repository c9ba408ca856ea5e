"""A 3D Repo backend as its chat service knows it: what it publishes to RabbitMQ, and its sessions in MongoDB."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import amqp
from kombu import Connection
from pymongo import MongoClient

Json = Any
EXCHANGE = "eventExchange"
# As express-session's cookies are by default.
LIFETIME = timedelta(days=1)
_MISSING: Json = object()


@dataclass
class Backend:
    """A connection to the broker; each message goes out on a channel of its own, as the original has it."""

    connection: Connection
    mongo: MongoClient[dict[str, Any]]
    exchange: str = EXCHANGE

    # What goes out.

    def publish(self, message: Json) -> None:
        self.publish_body(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))

    def publish_body(self, body: bytes, **properties: Any) -> None:
        """Publish a body: persistent, and without content type, encoding or headers."""
        channel = self.connection.channel()
        channel.exchange_declare(self.exchange, type="fanout", durable=True, auto_delete=False)
        channel.basic_publish(amqp.Message(body, delivery_mode=2, **properties), self.exchange, "")
        # Answered behind the message: the broker has it.
        channel.close()

    def model_event(
        self, event: str, room: Mapping[str, str], data: Json, *, sender: Json = _MISSING
    ) -> Mapping[str, Json]:
        """What happened in a model, for v5; return the data that its members hear."""
        told = {"data": data, **room}
        recipients = ["::".join((room["teamspace"], room["project"], room["model"]))]
        self.publish({"event": event, "data": told, "recipients": recipients, **_if_given(sender=sender)})
        return told

    def project_event(self, event: str, room: Mapping[str, str], data: Json) -> Mapping[str, Json]:
        """What happened in a project, for v5; return the data that its members hear."""
        told = {"data": data, **room}
        self.publish({"event": event, "data": told, "recipients": ["::".join((room["teamspace"], room["project"]))]})
        return told

    def tell_sessions(self, event: str, data: Json, *session_ids: str) -> None:
        """Say something to the sockets of sessions."""
        self.publish({"event": event, "data": data, "recipients": [f"sessions::{sid}" for sid in session_ids]})

    def v4_event(self, name: str, room: Mapping[str, str], data: Json, *, emitter: str | None = None) -> str:
        """What happened in a model, for v4; return the name under which its members hear of it."""
        event = f"{room['teamspace']}::{room['model']}::{name}"
        channel = "::".join((room["teamspace"], room["project"], room["model"]))
        self.publish({"event": event, "channel": channel, "emitter": emitter, "data": data})
        return event

    def notification(self, name: str, username: str, data: Json) -> str:
        """A user's own notification; return the name under which it is heard."""
        event = f"{username}::{name}"
        self.publish({"event": event, "channel": f"notifications::{username}", "emitter": None, "data": data})
        return event

    def logged_in(self, session_id: str, socket_id: str) -> None:
        data = {"sessionID": session_id, "socketId": socket_id}
        self.publish({"internal": True, "event": "loggedIn", "data": data})

    def logged_out(self, *session_ids: str) -> None:
        self.publish({"internal": True, "event": "loggedOut", "data": {"sessionIds": list(session_ids)}})

    # Who is logged in.

    def save_session(
        self,
        username: str | None,
        session_id: str | None = None,
        *,
        expires: datetime | None = None,
        as_text: bool = False,
    ) -> str:
        """Save a session as express-session does, and return its id."""
        session_id = session_id or new_session_id()
        session: Json = {"cookie": {"path": "/"}, **({"user": {"username": username}} if username else {})}
        document = {
            "_id": session_id,
            "expires": expires or datetime.now(timezone.utc) + LIFETIME,
            "session": json.dumps(session) if as_text else session,
        }
        self.mongo["admin"]["sessions"].replace_one({"_id": session_id}, document, upsert=True)
        return session_id

    def delete_session(self, session_id: str) -> None:
        self.mongo["admin"]["sessions"].delete_one({"_id": session_id})

    def log_in(self, username: str, socket_id: str) -> str:
        """Log somebody in on a socket and return the session's id; as the original, it tells before it has saved."""
        session_id = new_session_id()
        self.logged_in(session_id, socket_id)
        return self.save_session(username, session_id)

    def log_out(self, session_id: str, reason: str = "You have logged in else where") -> None:
        """End a session for another login, in the original's order."""
        self.delete_session(session_id)
        self.logged_out(session_id)
        self.tell_sessions("loggedOut", {"reason": reason}, session_id)


def new_session_id() -> str:
    """Return an id as express-session makes them; `uid-safe` writes no `+ / =`, other makers do."""
    return secrets.token_urlsafe(24)


def _if_given(**values: Json) -> dict[str, Json]:
    return {name: value for name, value in values.items() if value is not _MISSING}


@contextmanager
def backend(url: str, mongo: MongoClient[dict[str, Any]], exchange: str = EXCHANGE) -> Iterator[Backend]:
    """Run a backend that publishes to this broker."""
    with Connection(url, connect_timeout=15) as connection:
        yield Backend(connection, mongo, exchange)
