"""A host's own Flask app with the extension in it, served as a process: `host_app.py <config as JSON>`.

Its own keys: `SESSIONS` (`cookie`, `mongodb`, `redis` or `flask-login`), `STOCK_SOCKETIO` (the host's own
Flask-SocketIO, stock), `PATCH` (false: do not patch), `PORT`, `CLOCK` (true: `POST /clock` sets by how many `seconds`
the process's clock is ahead), `HOOK` (true: a `before_request` that does nothing), `CONNECTS` (true: `/connects` lists
what a connect handler of the host's was given). Everything else goes into `app.config`. Prints the port when it
listens.
"""

from __future__ import annotations

import json
import sys

options = json.loads(sys.argv[1])
if options.pop("PATCH", True):
    from gevent import monkey

    monkey.patch_all()

if options.get("CLOCK"):
    from tests.support.jumping_clock import install

    install()

from time import monotonic
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from flask import Flask, jsonify, request, session
from flask_socketio import SocketIO
from werkzeug.serving import make_server

from repo_notify import RepoNotify, events, flask_login_user
from repo_notify.errors import InvalidEvent
from repo_notify.logs import configure
from repo_notify.serving import serve


def make_app(options: dict[str, Any]) -> Flask:
    sessions = options.pop("SESSIONS", "cookie")
    connects = options.pop("CONNECTS", False)
    stock = options.pop("STOCK_SOCKETIO", None)
    app = Flask("host")
    if options.pop("HOOK", False):
        app.before_request(lambda: None)
    app.config.update({"SECRET_KEY": "a host's own key", **options})
    if form := app.config.get("LOG_FORMAT"):
        configure("info", form)
    notify = RepoNotify()
    socketio = SocketIO(app, path="chat", **stock) if stock is not None else None
    notify.init_app(app, socketio=socketio)
    use_sessions(app, notify, sessions)
    add_access_checker(app, notify)
    add_routes(app, notify)
    if connects:
        add_connect_handler(app, notify)
    app.add_url_rule("/busy", view_func=busy)
    app.add_url_rule("/clock", view_func=clock, methods=["POST"])
    app.add_url_rule("/end", view_func=lambda: jsonify(notify.socketio.server.shutdown()), methods=["POST"])
    return app


def add_connect_handler(app: Flask, notify: RepoNotify) -> None:
    given: list[Any] = []

    def connect(auth: Any) -> None:
        given.append(auth)

    notify.socketio.on_event("connect", connect)
    app.add_url_rule("/connects", "connects", lambda: jsonify(given))


def busy() -> Any:
    """Hold the event loop up, as a view does that computes or waits without gevent's knowing."""
    end = monotonic() + float(request.args["seconds"])
    while monotonic() < end:
        pass
    return jsonify({})


def clock() -> Any:
    """Set the clock of this process, which `CLOCK` has put in."""
    from tests.support.jumping_clock import jump

    jump(request.get_json()["seconds"])
    return jsonify({})


def use_sessions(app: Flask, notify: RepoNotify, kind: str) -> None:
    if kind == "mongodb":
        from flask_session import Session
        from pymongo import MongoClient

        app.config["SESSION_TYPE"] = "mongodb"
        app.config["SESSION_MONGODB"] = MongoClient(app.config["REPO_NOTIFY_MONGO_URI"], connect=False)
        Session(app)
    if kind == "redis":
        from flask_session import Session
        from redis import Redis

        app.config["SESSION_TYPE"] = "redis"
        app.config["SESSION_REDIS"] = Redis.from_url(app.config["REDIS_OF_SESSIONS"])
        Session(app)
    if kind == "flask-login":
        from flask_login import LoginManager, UserMixin

        class User(UserMixin):
            def __init__(self, name: str) -> None:
                self.id = name

        LoginManager(app).user_loader(User)
        notify.identity_loader(flask_login_user)
        app.config["MAKE_USER"] = User


def add_access_checker(app: Flask, notify: RepoNotify) -> None:
    denied: set[str] = set()

    @notify.access_checker
    def agrees(username: str, teamspace: str, project: str | None, model: str | None) -> bool:
        if "raise" in denied:
            raise RuntimeError("the host's own")
        return username not in denied

    @app.post("/deny")
    def deny() -> Any:
        """Deny these users from now on, and end the access of those that `ends` names."""
        body = request.get_json()
        denied.clear()
        denied.update(body["users"])
        if "ends" in body:
            notify.end_access(**body["ends"])
        return jsonify({})


def add_routes(app: Flask, notify: RepoNotify) -> None:
    @app.post("/login")
    def login() -> Any:
        username = request.get_json()["username"]
        if make_user := app.config.get("MAKE_USER"):
            from flask_login import login_user

            login_user(make_user(username))
        else:
            session["user"] = {"username": username}
        return jsonify(username=username)

    @app.post("/logout")
    def logout() -> Any:
        notify.logout()
        session.clear()
        return jsonify({})

    @app.get("/session")
    def session_id() -> Any:
        return jsonify(session_id=notify.session_id())

    @app.get("/plain")
    def plain() -> Any:
        return jsonify(plain=True)

    @app.post("/publish")
    def publish() -> Any:
        """Publish as a view would: `{"type": ..., fields}`; answers 400 with the wrong fields."""
        fields = request.get_json()
        event = getattr(events, fields.pop("type"))(**fields)
        try:
            notify.publish(event)
        except InvalidEvent as error:
            return jsonify(fields=error.fields), 400
        return jsonify({})

    @app.post("/publish-bson")
    def publish_bson() -> Any:
        """Publish what MongoDB documents hold; `?tz_aware` makes times aware, as a host's pymongo may be set up."""
        options: CodecOptions[dict[str, Any]] = CodecOptions(
            tz_aware="tz_aware" in request.args, uuid_representation=UuidRepresentation.STANDARD
        )
        fields = bson.decode(request.get_data(), options)
        notify.publish(getattr(events, fields.pop("type"))(**fields))
        return jsonify({})


if __name__ == "__main__":
    port = options.pop("PORT", 0)
    app = make_app(options)
    if app.config.get("REPO_NOTIFY_ASYNC_MODE") == "threading":
        server = make_server("127.0.0.1", port, app, threaded=True)
        print(server.server_port, flush=True)
        server.serve_forever()
    serve(app, host="127.0.0.1", port=port, on_ready=lambda url: print(url.rsplit(":", 1)[1], flush=True))
