"""JSON request bodies: which fields each must have, and what no body may smuggle into a document or an update."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from flask import request
from marshmallow import INCLUDE, Schema, ValidationError, fields, validate, validates_schema

from .errors import InvalidFields

MAX_TEXT = 1000
MAX_DEPTH = 50
ILLEGAL_NAME = "is no legal field name: not empty, no $ at its start, no dot, no null character"
NOT_TEXT = "must be a non-empty string"

Body = dict[str, Any]


def _text(*, required: bool = True, longest: int | None = MAX_TEXT) -> fields.String:
    rule = validate.Length(min=1, max=longest, error=f"must be a string of 1 to {longest} characters")
    return fields.String(
        required=required,
        error_messages={"required": NOT_TEXT, "null": NOT_TEXT, "invalid": NOT_TEXT},
        validate=rule if longest else validate.Length(min=1, error=NOT_TEXT),
    )


class AnyBody(Schema):
    """Any JSON object; the others add what it must hold. Further fields are kept as they came."""

    class Meta:
        """Keep what is not declared."""

        unknown = INCLUDE


class LoginV5(AnyBody):
    """`POST /v5/login`."""

    user = _text()
    password = _text()


class LoginV4(AnyBody):
    """`POST /login`."""

    username = _text()
    password = _text()


class Named(AnyBody):
    """A new model or issue."""

    name = _text()


class NamedChange(AnyBody):
    """A change of a model or issue: the name may stay away, but not be emptied."""

    name = _text(required=False)


class Revision(AnyBody):
    """A new revision."""

    tag = _text()


class RevisionChange(AnyBody):
    """A change of a revision."""

    tag = _text(required=False)


class Ticket(AnyBody):
    """A new ticket."""

    title = _text()


class TicketChange(AnyBody):
    """A change of a ticket."""

    title = _text(required=False)


class Comment(AnyBody):
    """A comment's text, in `message` (v5) or `comment` (v4)."""

    message = _text(required=False, longest=None)
    comment = _text(required=False, longest=None)

    @validates_schema
    def has_text(self, data: Body, **_: object) -> None:
        """Raise ValidationError where there is neither."""
        if not {"message", "comment"} & data.keys():
            raise ValidationError("must be given, a non-empty string (or `comment`)", "message")


class CommentRemoval(AnyBody):
    """`DELETE …/comments`."""

    guid = _text()


class IssueChange(NamedChange):
    """`PUT`/`PATCH` of an issue: fields, and a comment to add, edit or delete."""

    comment = _text(required=False, longest=None)
    edit = fields.Boolean(truthy={True}, falsy={False}, error_messages={"invalid": "must be true or false"})
    delete = fields.Boolean(truthy={True}, falsy={False}, error_messages={"invalid": "must be true or false"})
    commentIndex = fields.Integer(  # noqa: N815 - the protocol's name
        strict=True,
        error_messages={"invalid": "must be the position of a comment, counted from 0"},
        validate=validate.Range(min=0, error="must be the position of a comment, counted from 0"),
    )

    @validates_schema
    def is_one_thing(self, data: Body, **_: object) -> None:
        """Raise ValidationError where what is asked of a comment is incomplete or contradicts itself."""
        edit, delete = data.get("edit"), data.get("delete")
        if edit and delete:
            raise ValidationError("cannot be asked together with edit", "delete")
        if edit and "comment" not in data:
            raise ValidationError("must be given to edit a comment", "comment")
        if (edit or delete) and "commentIndex" not in data:
            raise ValidationError("must say which comment, counted from 0", "commentIndex")


class Notification(AnyBody):
    """`POST /v5/notifications`."""

    username = _text()


def read_body(schema: type[Schema], *, reserved: Iterable[str] = ()) -> Body:
    """Return the request's JSON object, checked.

    `reserved` are the fields that only the service sets. Raises InvalidFields naming each wrong field, and werkzeug's
    RequestEntityTooLarge.
    """
    body = _json_object(request.get_data(cache=False))
    problems = {name: "is set by the service" for name in reserved if name in body} | _unstorable(body)
    if problems:
        raise InvalidFields(problems)
    try:
        checked = schema().load(body)
    except ValidationError as error:
        # Every field here is plain, so that `messages` is field -> texts.
        raise InvalidFields({field: str(texts[0]) for field, texts in error.messages_dict.items()}) from None
    # In the order in which the client wrote them, which marshmallow does not keep for fields it does not know.
    return {name: checked[name] for name in body}


def _json_object(data: bytes) -> Body:
    # A form of another site cannot send this type unasked, so that a foreign page cannot make changes.
    if not request.is_json:
        raise InvalidFields({"body": "must be JSON, sent as Content-Type: application/json"})
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidFields({"body": "must be valid JSON"}) from None
    if not isinstance(body, dict):
        raise InvalidFields({"body": "must be a JSON object"})
    return body


def _unstorable(body: Body) -> dict[str, str]:
    """Return what in `body` MongoDB or an update operator would stumble over, as path -> what it should be."""
    problems: dict[str, str] = {}
    rest: list[tuple[str, Any, int]] = [("", body, 0)]
    while rest:
        path, value, depth = rest.pop()
        if depth > MAX_DEPTH:
            return {path.split(".", 1)[0].split("[", 1)[0]: f"must not be nested deeper than {MAX_DEPTH} levels"}
        if isinstance(value, dict):
            for key, item in value.items():
                here = f"{path}.{key}" if path else key
                if not key or key.startswith("$") or "." in key or "\0" in key or not _is_unicode(key):
                    problems[ascii(here)[1:-1]] = ILLEGAL_NAME
                else:
                    rest.append((here, item, depth + 1))
        elif isinstance(value, list):
            rest.extend((f"{path}[{index}]", item, depth + 1) for index, item in enumerate(value))
        elif (isinstance(value, int) and not -(2**63) <= value < 2**63) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            problems[path] = "must be a finite number of at most 64 bits"
        elif isinstance(value, str) and not _is_unicode(value):
            problems[path] = "must be valid Unicode, without half surrogate pairs"
    return problems


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
