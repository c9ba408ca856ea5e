"""Stock Flask-SocketIO on gevent-websocket with the same room: `python -m benchmarks.servers.stock <config as JSON>`.

As small as its documentation suggests. TCP_NODELAY is on, without which every answer waits for an acknowledgement.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import signal
import socket
import sys
from typing import Any
from uuid import UUID

import gevent
from bson import Binary
from cachetools import TTLCache
from flask import Flask, jsonify, request, session
from flask_socketio import SocketIO, emit, join_room
from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler
from pymongo import MongoClient

from benchmarks.servers.control import add_control, use_sessions

EVENT = "containerSettingsUpdate"
READERS = ("viewer", "commenter", "collaborator")


class Readers:
    """Who may read a model, from the same collections as ours, kept for as long."""

    def __init__(self, mongo_uri: str, seconds: float) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(mongo_uri)
        self._cache: TTLCache[tuple[str, ...], frozenset[str]] = TTLCache(maxsize=10_000, ttl=seconds)

    def may_read(self, user: str, teamspace: str, project: str, model: str) -> bool:
        """Whether the user may read that model of that project."""
        place = (teamspace, project, model)
        found = self._cache.get(place)
        if found is None:
            found = self._cache[place] = self._look_up(*place)
        return user in found

    def _look_up(self, teamspace: str, project: str, model: str) -> frozenset[str]:
        database = self._client[teamspace]
        ids = [Binary(UUID(project).bytes, subtype) for subtype in (3, 4)]
        if database.projects.find_one({"_id": {"$in": ids}, "models": model}) is None:
            return frozenset()
        settings = database.settings.find_one({"_id": model}) or {}
        return frozenset(entry["user"] for entry in settings["permissions"] if entry["permission"] in READERS)


def room_key(place: dict[str, str]) -> str:
    """Return the name of a model's room."""
    return json.dumps([place["teamspace"], place["project"], place["model"]])


def add_rooms(socketio: SocketIO, readers: Readers) -> None:
    """Add the handler of joins."""

    def join(place: dict[str, str]) -> None:
        user = session.get("user")
        details = {"action": "join", "data": place}
        if user is None:
            emit("error", {"code": "UNAUTHORISED", "message": "You are not logged in", "details": details})
        elif not readers.may_read(user["username"], place["teamspace"], place["project"], place["model"]):
            emit("error", {"code": "ROOM_NOT_FOUND", "message": "Model not found", "details": details})
        else:
            join_room(room_key(place))
            emit("message", {"event": "success", "data": details})

    socketio.on_event("join", join)


def make_app(config: dict[str, Any]) -> Flask:
    """Return the app with its Flask-SocketIO."""
    app = Flask("stock")
    app.config["SECRET_KEY"] = config["secret"]
    use_sessions(app, config)
    socketio = SocketIO(
        app,
        path="chat",
        async_mode="gevent",
        ping_interval=config["ping_seconds"],
        ping_timeout=config["ping_seconds"],
        # Flask-SocketIO's own copies are for cookies; server-side sessions it is to leave to their interface.
        manage_session=config["sessions"] == "cookie",
    )
    add_rooms(socketio, Readers(config["mongo_uri"], config["cache_seconds"]))

    def publish(place: dict[str, str], data: Any) -> None:
        socketio.emit(EVENT, {**place, "data": data}, to=room_key(place))

    add_control(app, config["room"], publish)

    @app.post("/notify/events")
    def events() -> Any:
        if request.headers.get("Authorization") != f"Bearer {config['api_key']}":
            return jsonify(errors=[]), 401
        body = request.get_json()
        found = body if isinstance(body, list) else [body]
        for event in found:
            publish({name: event[name] for name in config["room"]}, event["data"])
        return jsonify(accepted=len(found)), 202

    return app


def serve(app: Flask) -> None:
    """Serve until SIGTERM."""
    listener = WSGIServer.get_listener(("127.0.0.1", 0), backlog=4096, family=socket.AF_INET)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = WSGIServer(listener, app, handler_class=WebSocketHandler, log=None)
    server.start()
    ended = gevent.event.Event()
    watcher = gevent.signal_handler(signal.SIGTERM, ended.set)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    ended.wait()
    watcher.cancel()


if __name__ == "__main__":
    serve(make_app(json.loads(sys.argv[1])))
