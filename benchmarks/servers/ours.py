"""Ours: RepoNotify in a Flask app, served by our own server. `python -m benchmarks.servers.ours <config as JSON>`."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import sys
from typing import Any

from flask import Flask

from benchmarks.servers.control import add_control, use_sessions
from repo_notify import RepoNotify
from repo_notify.events import ModelSettingsUpdated
from repo_notify.serving import serve


def make_app(config: dict[str, Any]) -> Flask:
    """Return the host app."""
    app = Flask("ours")
    app.config.update(
        SECRET_KEY=config["secret"],
        REPO_NOTIFY_MONGO_URI=config["mongo_uri"],
        REPO_NOTIFY_USERS_COLLECTION=config["users_collection"],
        REPO_NOTIFY_API_KEY=config["api_key"],
        REPO_NOTIFY_PERMISSION_CACHE_SECONDS=config["cache_seconds"],
        REPO_NOTIFY_PING_INTERVAL=config["ping_seconds"],
        REPO_NOTIFY_PING_TIMEOUT=config["ping_seconds"],
    )
    notify = RepoNotify(app)
    use_sessions(app, config)
    room = config["room"]
    add_control(app, lambda data: notify.publish(ModelSettingsUpdated(kind="container", data=data, **room)))
    return app


if __name__ == "__main__":
    serve(make_app(json.loads(sys.argv[1])), host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True))
