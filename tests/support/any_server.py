"""A host's app for any server: `app` to import, or `python any_server.py serve|run|pywsgi <port>`.

From the environment: `HOST_PATCH` (patch, as its first line), and `HOST_*` for `app.config`.
"""

from __future__ import annotations

import os
import sys

if os.environ.get("HOST_PATCH") == "1":
    from gevent import monkey

    monkey.patch_all()

from typing import Any

from flask import Flask, jsonify, request, session

from repo_notify import RepoNotify, events
from repo_notify.serving import serve

app = Flask("any_server")
app.config["SECRET_KEY"] = "a host's own key"
app.config.from_prefixed_env("HOST")
notify = RepoNotify(app)


@app.post("/login")
def login() -> Any:
    session["user"] = {"username": request.get_json()["username"]}
    return jsonify({})


@app.post("/publish")
def publish() -> Any:
    fields = request.get_json()
    notify.publish(getattr(events, fields.pop("type"))(**fields))
    return jsonify({})


def _pywsgi(port: int) -> None:
    from gevent.pywsgi import WSGIServer

    WSGIServer(("127.0.0.1", port), app, log=None).serve_forever()


WAYS = {
    "serve": lambda port: serve(app, host="127.0.0.1", port=port),
    "run": lambda port: notify.socketio.run(app, host="127.0.0.1", port=port),
    "pywsgi": _pywsgi,
}

if __name__ == "__main__":
    WAYS[sys.argv[1]](int(sys.argv[2]))
