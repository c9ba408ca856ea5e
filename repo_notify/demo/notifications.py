"""Notifications to a user, so that the demo has a way to cause them.

In 3D Repo they follow from imports and assignments. Here anybody who is logged in may notify any user;
the recipient and the sender may take a notification back.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from repo_notify.events import NotificationDeleted, NotificationUpserted

from . import body
from .context import current_user, demo, new_id, now_ms, publish
from .errors import InvalidFields, NotFound

STORED = "demo_notifications"
FIELDS = ("_id", "sender", "timestamp")

blueprint = Blueprint("demo_notifications", __name__)


@blueprint.post("/v5/notifications")
def create() -> Response:
    """`POST /v5/notifications {username, …}`: 200, the notification with its `_id`."""
    sender = current_user()
    fields = body.read_body(body.Notification, reserved=FIELDS)
    if demo().users.find_one({"user": fields["username"]}, {"_id": True}) is None:
        raise InvalidFields({"username": "must be the name of a user"})
    created = {"_id": new_id(), **fields, "sender": sender, "timestamp": now_ms()}
    demo().admin[STORED].insert_one(dict(created))
    publish(NotificationUpserted(username=fields["username"], data=created))
    return jsonify(created)


@blueprint.delete("/v5/notifications/<notification>")
def delete(notification: str) -> Response:
    """`DELETE /v5/notifications/<id>`: 200 `{_id}`."""
    user = current_user()
    whose = {"_id": notification, "$or": [{"username": user}, {"sender": user}]}
    deleted = demo().admin[STORED].find_one_and_delete(whose)
    if deleted is None:
        raise NotFound
    publish(NotificationDeleted(username=deleted["username"], data={"_id": notification}))
    return jsonify(_id=notification)
