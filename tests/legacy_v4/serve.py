"""The tests' host app, with routes that look into the engine: `python -m tests.legacy_v4.serve <config as JSON>`.

Its own key: `TIMING`, the engine's times that are no settings. `GET /state` counts what is alive; `POST /ask` has the
server ask a client.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import base64
import dataclasses
import gc
from typing import Any

import gevent
from flask import Flask, jsonify, request

from repo_notify.extension import NAME
from repo_notify.serving import serve
from repo_notify.state import State
from tests.support.host_app import make_app, options

ANSWER_SECONDS = 5


def restore(pairs: dict[str, Any]) -> Any:
    return base64.b64decode(pairs["__bytes__"]) if set(pairs) == {"__bytes__"} else pairs


def _task(greenlet: object) -> str:
    """What a greenlet runs."""
    return repr(getattr(greenlet, "_run", None))


def add_routes(app: Flask) -> None:
    state: State = app.extensions[NAME]
    server = state.socketio.server

    @app.get("/state")
    def look() -> Any:
        gc.collect()
        greenlets = [found for found in gc.get_objects() if isinstance(found, gevent.Greenlet) and not found.dead]
        rooms = server.manager.rooms
        return jsonify(
            connections=len(server.eio.sockets),
            environs=len(server.environ),
            members=sum(len(list(server.manager.get_participants(name, None))) for name in rooms),
            rooms=sum(map(len, rooms.values())),
            bound=len(state.identities.bound()),
            greenlets=sorted(_task(found) for found in greenlets),
        )

    @app.post("/ask")
    def ask() -> Any:
        asked = app.json.loads(request.get_data(), object_hook=restore)
        answer = server.call("question", **asked, timeout=ANSWER_SECONDS)
        return jsonify(answer=repr(answer))


if __name__ == "__main__":
    timing = options.pop("TIMING", {})
    app = make_app(options)
    add_routes(app)
    eio = app.extensions[NAME].socketio.server.eio
    eio.options = dataclasses.replace(eio.options, **timing)
    serve(app, host="127.0.0.1", port=0, on_ready=lambda url: print(url.rsplit(":", 1)[1], flush=True))
