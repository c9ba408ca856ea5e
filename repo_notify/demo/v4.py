"""The v4 REST API: issues and their comments, under `/<teamspace>/<model>/issues`; every path also with `.json`.

An issue is one document with its comments in it, as v4 clients know it:
`{_id, name, owner, created, comments: [{guid, comment | action, owner, created}]}`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify
from pymongo import ReturnDocument
from pymongo.collection import Collection

from repo_notify.events import CommentCreated, CommentDeleted, CommentUpdated, IssuesCreated, IssueUpdated

from . import body
from .access import Level, Model, model_for
from .context import Document, current_user, new_id, now_ms, publish
from .errors import InvalidFields, NotFound

STORED = "issues"
ISSUES = "/<teamspace>/<model>/issues"
ISSUE = f"{ISSUES}/<issue>"
COMMENTS = f"{ISSUE}/comments"

# What only the service sets.
ISSUE_FIELDS = ("_id", "account", "model", "owner", "created", "comments")
COMMENT_FIELDS = ("_id", "guid", "owner", "created", "action", "issueId")
# What in the body of a PUT is about a comment, not a field of the issue.
COMMENT_KEYS = ("comment", "edit", "delete", "commentIndex")

View = Callable[..., Response]

blueprint = Blueprint("demo_v4", __name__)


def _route(path: str, *methods: str) -> Callable[[View], View]:
    """Register a view under `path` and under `path` with `.json`."""

    def register(view: View) -> View:
        for rule in (path, f"{path}.json"):
            blueprint.add_url_rule(rule, view_func=view, methods=methods)
        return view

    return register


@_route(ISSUES, "POST")
def create_issue(teamspace: str, model: str) -> Response:
    """Open an issue; for commenters."""
    found = model_for(teamspace, model, needs=Level.COMMENTER)
    fields = body.read_body(body.Named, reserved=ISSUE_FIELDS)
    issue: Document = {
        "_id": new_id(),
        **fields,
        "account": teamspace,
        "model": found.id,
        "owner": current_user(),
        "created": now_ms(),
        "comments": [],
    }
    _issues(found).insert_one(dict(issue))
    publish(IssuesCreated(teamspace=teamspace, model=found.id, issues=[issue]))
    return jsonify(issue)


@_route(ISSUE, "PUT", "PATCH")
def change_issue(teamspace: str, model: str, issue: str) -> Response:
    """Change fields, and add, edit or delete a comment; for commenters. The answer is the issue as it is then."""
    found = model_for(teamspace, model, needs=Level.COMMENTER)
    asked = body.read_body(body.IssueChange, reserved=ISSUE_FIELDS)
    if not asked:
        raise InvalidFields({"body": "must hold at least one field to change, or a comment"})
    before = _find(found, issue)
    of_comment = {key: asked.pop(key) for key in COMMENT_KEYS if key in asked}
    # Looked up before anything is stored, so that a wrong commentIndex changes nothing.
    which = _comment_at(before, of_comment)
    if asked:
        _change_fields(found, before, asked)
    if which is not None:
        _change_comment(found, issue, which, of_comment)
    elif "comment" in of_comment:
        _add_comment(found, issue, {"comment": of_comment["comment"]})
    return jsonify(_find(found, issue))


@_route(COMMENTS, "POST")
def create_comment(teamspace: str, model: str, issue: str) -> Response:
    """Comment on an issue; for commenters. The answer is the comment with its `guid`."""
    found = model_for(teamspace, model, needs=Level.COMMENTER)
    fields = body.read_body(body.Comment, reserved=COMMENT_FIELDS)
    return jsonify(_add_comment(found, issue, fields))


@_route(COMMENTS, "DELETE")
def delete_comment(teamspace: str, model: str, issue: str) -> Response:
    """Delete the comment whose `guid` the body names, and answer with that; for commenters."""
    found = model_for(teamspace, model, needs=Level.COMMENTER)
    guid = body.read_body(body.CommentRemoval)["guid"]
    return jsonify(_delete_comment(found, issue, guid))


def _issues(model: Model) -> Collection[Document]:
    return model.database[STORED]


def _find(model: Model, issue: str) -> Document:
    document = _issues(model).find_one({"_id": issue, "model": model.id})
    if document is None:
        raise NotFound
    return document


def _update(model: Model, issue: str, update: Document, **options: Any) -> Document:
    """Store a change of an issue and return the issue after it; raises NotFound."""
    document = _issues(model).find_one_and_update(
        {"_id": issue, "model": model.id}, update, return_document=ReturnDocument.AFTER, **options
    )
    if document is None:
        raise NotFound
    return document


def _new_comment(fields: Document) -> Document:
    return {"guid": new_id(), **fields, "owner": current_user(), "created": now_ms()}


def _change_fields(model: Model, before: Document, asked: Document) -> None:
    """Store the fields, with a comment for each that is now different, and publish both."""
    records = [
        _new_comment({"action": {"property": name, "from": before.get(name), "to": value}})
        for name, value in asked.items()
        if name not in before or before[name] != value
    ]
    if not records:
        return
    issue = before["_id"]
    after = _update(model, issue, {"$set": asked, "$push": {"comments": {"$each": records}}})
    publish(IssueUpdated(teamspace=model.database.name, model=model.id, issue=issue, data=after))
    for record in records:
        publish(CommentCreated(teamspace=model.database.name, model=model.id, issue=issue, data=record))


def _comment_at(issue: Document, of_comment: Document) -> str | None:
    """Return the guid of the comment to edit or delete, None for neither; raises InvalidFields."""
    if not of_comment.get("edit") and not of_comment.get("delete"):
        return None
    index, comments = of_comment["commentIndex"], issue["comments"]
    if index >= len(comments):
        raise InvalidFields({"commentIndex": f"must be below {len(comments)}, the number of comments"})
    return str(comments[index]["guid"])


def _add_comment(model: Model, issue: str, fields: Document) -> Document:
    comment = _new_comment(fields)
    _update(model, issue, {"$push": {"comments": comment}})
    publish(CommentCreated(teamspace=model.database.name, model=model.id, issue=issue, data=comment))
    return comment


def _change_comment(model: Model, issue: str, guid: str, of_comment: Document) -> None:
    if of_comment.get("delete"):
        _delete_comment(model, issue, guid)
        return
    change = {"comments.$[which].comment": of_comment["comment"], "comments.$[which].edited": now_ms()}
    after = _update(model, issue, {"$set": change}, array_filters=[{"which.guid": guid}])
    for comment in after["comments"]:
        if comment["guid"] == guid:
            publish(CommentUpdated(teamspace=model.database.name, model=model.id, issue=issue, data=comment))


def _delete_comment(model: Model, issue: str, guid: str) -> Document:
    which = {"_id": issue, "model": model.id, "comments.guid": guid}
    if not _issues(model).update_one(which, {"$pull": {"comments": {"guid": guid}}}).matched_count:
        raise NotFound
    gone = {"guid": guid}
    publish(CommentDeleted(teamspace=model.database.name, model=model.id, issue=issue, data=gone))
    return gone
