"""A small REST API in 3D Repo's shape: the host app into which the demo plugs the extension, and the tests theirs.

| module | paths |
|---|---|
| `auth` | `/v5/login`, `/v5/logout`, `/login`, `/logout` |
| `v5` | models, revisions, tickets, ticket comments, ticket groups |
| `v4` | issues and their comments |
| `notifications` | `POST /v5/notifications {username, …}`, `DELETE /v5/notifications/<id>` |
| here | `/` and `/console/…` (the console page), `GET /demo/world`, `POST /demo/reset` |
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify
from flask.json.provider import DefaultJSONProvider
from flask_session import Session
from werkzeug.wrappers import Response as AnyResponse

from repo_notify import RepoNotify
from repo_notify.access.store import connect, uuid_of

from . import auth, body, notifications, v4, v5
from .access import kind_of
from .context import Demo, current_user, demo
from .errors import NotFound, register_error_handlers
from .seed import TEAMSPACE, USERS, seed_again

MAX_BODY_BYTES = 1024 * 1024
DATABASE_SECONDS = 5.0

pages = Blueprint("demo_pages", __name__)


def create_demo_app(
    *, mongo_uri: str, users_collection: str = "users", resettable: bool = False, **config: Any
) -> Flask:
    """Return the demo's app with the extension in it, on the database at `mongo_uri`.

    `users_collection` is the collection of accounts in the database `admin`; `resettable` lets whoever is logged in
    have the sample teamspace's database dropped and made anew; `config` is further Flask configuration, REPO_NOTIFY_*
    keys and SECRET_KEY among them. Raises pymongo's errors when the database does not answer.
    """
    client = connect(mongo_uri, timeout=DATABASE_SECONDS)
    app = Flask(__name__, static_url_path="/console")
    app.config.from_mapping(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        SESSION_COOKIE_NAME="connect.sid",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_TYPE="mongodb",
        SESSION_MONGODB=client,
        SESSION_MONGODB_DB="admin",
        SESSION_MONGODB_COLLECT=auth.SESSIONS,
        SESSION_KEY_PREFIX="session:",
        # Written at login alone, so that a request under way cannot bring back a session that was just ended.
        SESSION_REFRESH_EACH_REQUEST=False,
        REPO_NOTIFY_MONGO_URI=mongo_uri,
        REPO_NOTIFY_USERS_COLLECTION=users_collection,
    )
    app.config.update(config)
    if isinstance(app.json, DefaultJSONProvider):
        app.json.sort_keys = False
    Session(app)
    notify = RepoNotify()
    notify.init_app(app)
    Demo(client=client, notify=notify, users=client["admin"][users_collection], resettable=resettable).attach(app)
    register_error_handlers(app)
    for blueprint in (auth.blueprint, notifications.blueprint, v5.blueprint, v4.blueprint, pages):
        app.register_blueprint(blueprint)
    with app.app_context():
        auth.prepare_collections()
    return app


@pages.get("/")
def console() -> AnyResponse:
    """Serve the console page; its assets are under `/console/`."""
    page = current_app.send_static_file("console.html")
    page.headers["Content-Security-Policy"] = "default-src 'self'; connect-src 'self' ws: wss:"
    return page


@pages.get("/demo/world")
def world() -> Response:
    """Tell the console what there is: sample users, projects and models. Without login, which only a demo may do."""
    database = demo().client[TEAMSPACE]
    names = [user["user"] for user in demo().users.find({"user": {"$in": list(USERS)}}, {"user": True})]
    models = {settings["_id"]: settings for settings in database["settings"].find({}, {"permissions": False})}
    return jsonify(
        teamspace=TEAMSPACE,
        resettable=demo().resettable,
        users=[{"username": name, "role": role} for name, role in USERS.items() if name in names],
        projects=[
            {
                "_id": str(uuid_of(project["_id"]) or project["_id"]),
                "name": project.get("name"),
                "models": [
                    {"_id": model, "name": models[model].get("name"), "kind": kind_of(models[model])}
                    for model in project.get("models") or ()
                    if model in models
                ],
            }
            for project in database["projects"].find()
        ],
    )


@pages.post("/demo/reset")
def reset() -> Response:
    """`POST /demo/reset {}`: 200 `{teamspace}`, the sample data is as at the first start; 404 where not offered."""
    current_user()
    body.read_body(body.AnyBody)
    if not demo().resettable:
        raise NotFound
    demo().admin[notifications.STORED].delete_many({})
    seed_again(demo().client, users_collection=demo().users.name)
    return jsonify(teamspace=TEAMSPACE)
