"""The v5 REST API: containers, federations and drawings, their revisions, tickets, ticket comments and groups.

Everything is under `/v5/teamspaces/<teamspace>/projects/<project>/(containers|federations|drawings)`; bodies and
answers are JSON objects. Each view stores its change, publishes it, then answers with what was stored.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify
from pymongo.errors import DuplicateKeyError

from repo_notify.events import (
    Data,
    ModelCreated,
    ModelRemoved,
    ModelSettingsUpdated,
    RevisionCreated,
    RevisionUpdated,
    TicketCommentCreated,
    TicketCommentUpdated,
    TicketCreated,
    TicketGroupUpdated,
    TicketUpdated,
)
from repo_notify.protocol.ids import is_uuid

from . import body
from .access import KINDS, MARKS, Level, Model, model_for, project_for
from .context import Document, current_user, new_id, now_ms, publish
from .errors import InvalidFields, NotFound

MODELS = "/v5/teamspaces/<teamspace>/projects/<project>/<any(containers,federations,drawings):kind>"
MODEL = f"{MODELS}/<model>"
TICKETS = MODEL.replace(",drawings", "") + "/tickets"
TICKET = f"{TICKETS}/<ticket>"

# Collections of a teamspace's database, beside those of 3D Repo's layout.
REVISIONS = "revisions"
TICKETS_STORED = "tickets"
TICKET_COMMENTS = "tickets.comments"
TICKET_GROUPS = "tickets.groups"
OF_A_MODEL = (REVISIONS, TICKETS_STORED, TICKET_COMMENTS, TICKET_GROUPS, "issues")

# What only the service sets; from a client these would be a way to other rights, or to another kind of thing.
MODEL_FIELDS = ("_id", "federate", "modelType", "permissions")
REVISION_FIELDS = ("_id", "model", "author", "timestamp")
TICKET_FIELDS = ("_id", "model", "owner", "created", "updated")
TICKET_PART_FIELDS = ("_id", "model", "ticket", "author", "created", "updated")

blueprint = Blueprint("demo_v5", __name__)


@blueprint.post(MODELS)
def create_model(teamspace: str, project: str, kind: str) -> Response:
    """Create a model; for admins of the project or the teamspace."""
    holder = project_for(teamspace, project, needs=Level.ADMIN)
    fields = body.read_body(body.Named, reserved=MODEL_FIELDS)
    created: Document = {"_id": new_id(), **fields, **MARKS[KINDS[kind]]}
    holder.database["settings"].insert_one({**created, "permissions": []})
    holder.database["projects"].update_one({"_id": holder.key}, {"$addToSet": {"models": created["_id"]}})
    publish(ModelCreated(teamspace=teamspace, project=holder.id, kind=KINDS[kind], data=created))
    return jsonify(_id=created["_id"])


@blueprint.patch(MODEL)
def change_model(teamspace: str, project: str, kind: str, model: str) -> Response:
    """Change settings, `status` among them; for collaborators."""
    found = _model(teamspace, project, kind, model, needs=Level.COLLABORATOR)
    changes = _changes(body.NamedChange, reserved=MODEL_FIELDS)
    if not found.database["settings"].update_one({"_id": found.id}, {"$set": changes}).matched_count:
        raise NotFound
    publish(ModelSettingsUpdated(**found.address, data=changes))
    return jsonify({"_id": found.id, **changes})


@blueprint.delete(MODEL)
def remove_model(teamspace: str, project: str, kind: str, model: str) -> Response:
    """Remove a model and all that belongs to it; for admins of the project or the teamspace."""
    found = _model(teamspace, project, kind, model, needs=Level.ADMIN)
    found.database["projects"].update_one({"_id": found.project.key}, {"$pull": {"models": found.id}})
    found.database["settings"].delete_one({"_id": found.id})
    for collection in OF_A_MODEL:
        found.database[collection].delete_many({"model": found.id})
    publish(ModelRemoved(**found.address))
    return jsonify(_id=found.id)


@blueprint.post(f"{MODEL}/revisions")
def create_revision(teamspace: str, project: str, kind: str, model: str) -> Response:
    """Add a revision; for collaborators."""
    found = _model(teamspace, project, kind, model, needs=Level.COLLABORATOR)
    fields = body.read_body(body.Revision, reserved=REVISION_FIELDS)
    created = {"_id": new_id(), **fields, "author": current_user(), "timestamp": now_ms()}
    return _created(found, REVISIONS, RevisionCreated, created)


@blueprint.patch(f"{MODEL}/revisions/<revision>")
def change_revision(teamspace: str, project: str, kind: str, model: str, revision: str) -> Response:
    """Change a revision, `void` for one; for collaborators. There is no event for those of federations."""
    found = _model(teamspace, project, kind, model, needs=Level.COLLABORATOR)
    changes = _changes(body.RevisionChange, reserved=REVISION_FIELDS)
    changed = _update(found, REVISIONS, {"_id": revision}, changes)
    if found.kind != "federation":
        publish(RevisionUpdated(**found.address, data=changed))
    return jsonify(changed)


@blueprint.post(TICKETS)
def create_ticket(teamspace: str, project: str, kind: str, model: str) -> Response:
    """Add a ticket; for commenters."""
    found = _model(teamspace, project, kind, model, needs=Level.COMMENTER)
    fields = body.read_body(body.Ticket, reserved=TICKET_FIELDS)
    now = now_ms()
    created = {"_id": new_id(), **fields, "owner": current_user(), "created": now, "updated": now}
    return _created(found, TICKETS_STORED, TicketCreated, created)


@blueprint.patch(TICKET)
def change_ticket(teamspace: str, project: str, kind: str, model: str, ticket: str) -> Response:
    """Change a ticket; for commenters."""
    found = _model(teamspace, project, kind, model, needs=Level.COMMENTER)
    changes = _changes(body.TicketChange, reserved=TICKET_FIELDS)
    changed = _update(found, TICKETS_STORED, {"_id": ticket}, {**changes, "updated": now_ms()})
    publish(TicketUpdated(**found.address, data=changed))
    return jsonify(changed)


@blueprint.post(f"{TICKET}/comments")
def create_ticket_comment(teamspace: str, project: str, kind: str, model: str, ticket: str) -> Response:
    """Comment on a ticket; for commenters."""
    found = _with_ticket(_model(teamspace, project, kind, model, needs=Level.COMMENTER), ticket)
    fields = body.read_body(body.Comment, reserved=TICKET_PART_FIELDS)
    now = now_ms()
    created = {"_id": new_id(), "ticket": ticket, **fields, "author": current_user(), "created": now, "updated": now}
    return _created(found, TICKET_COMMENTS, TicketCommentCreated, created)


@blueprint.put(f"{TICKET}/comments/<comment>")
def change_ticket_comment(teamspace: str, project: str, kind: str, model: str, ticket: str, comment: str) -> Response:
    """Change a comment on a ticket; for commenters."""
    found = _with_ticket(_model(teamspace, project, kind, model, needs=Level.COMMENTER), ticket)
    changes = {**body.read_body(body.Comment, reserved=TICKET_PART_FIELDS), "updated": now_ms()}
    changed = _update(found, TICKET_COMMENTS, {"_id": comment, "ticket": ticket}, changes)
    publish(TicketCommentUpdated(**found.address, data=changed))
    return jsonify(changed)


@blueprint.put(f"{TICKET}/groups/<group>")
def put_ticket_group(teamspace: str, project: str, kind: str, model: str, ticket: str, group: str) -> Response:
    """Make or change a ticket's group, under a UUID that the client chooses; for commenters."""
    found = _with_ticket(_model(teamspace, project, kind, model, needs=Level.COMMENTER), ticket)
    changes = _changes(body.AnyBody, reserved=TICKET_PART_FIELDS)
    if not is_uuid(group):
        raise NotFound
    which = {"_id": group.lower(), "ticket": ticket}
    try:
        found.database[TICKET_GROUPS].update_one({**which, "model": found.id}, {"$set": changes}, upsert=True)
    except DuplicateKeyError:
        raise NotFound from None  # it is another ticket's
    data = {**which, **changes}
    publish(TicketGroupUpdated(**found.address, data=data))
    return jsonify(data)


def _model(teamspace: str, project: str, kind: str, model: str, *, needs: Level) -> Model:
    return model_for(teamspace, model, needs=needs, project=project, kind=KINDS[kind])


def _with_ticket(model: Model, ticket: str) -> Model:
    if model.database[TICKETS_STORED].find_one({"_id": ticket, "model": model.id}, {"_id": True}) is None:
        raise NotFound
    return model


def _changes(schema: type[body.AnyBody], *, reserved: tuple[str, ...]) -> Document:
    changes = body.read_body(schema, reserved=reserved)
    if not changes:
        raise InvalidFields({"body": "must hold at least one field to change"})
    return changes


def _created(model: Model, collection: str, event: Any, data: Data) -> Response:
    model.database[collection].insert_one({**data, "model": model.id})
    publish(event(**model.address, data=data))
    return jsonify(data)


def _update(model: Model, collection: str, which: Document, changes: Document) -> Document:
    """Store `changes` and return them with what names their document; raises NotFound."""
    result = model.database[collection].update_one({**which, "model": model.id}, {"$set": changes})
    if not result.matched_count:
        raise NotFound
    return {**which, **changes}
