"""Ours: RepoNotify in a Flask app, served by our own server. `python -m benchmarks.servers.ours <config as JSON>`."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import sys
from typing import Any

from flask import Flask, jsonify
from pymongo import monitoring

from benchmarks.servers.control import add_control, use_sessions
from benchmarks.servers.turns import Turns
from repo_notify import RepoNotify
from repo_notify.events import ModelSettingsUpdated, TicketCreated
from repo_notify.serving import serve

# What a look-up of rights sends.
QUERIES = frozenset({"find", "aggregate"})


class Queries(monitoring.CommandListener):
    """Counts what is asked of the database."""

    def __init__(self) -> None:
        self.count = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count a query."""
        self.count += event.command_name in QUERIES

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Do nothing."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Do nothing."""


def make_app(config: dict[str, Any]) -> Flask:
    """Return the host app."""
    app = Flask("ours")
    queries = Queries()
    monitoring.register(queries)
    app.add_url_rule("/bench/queries", "queries", view_func=lambda: jsonify(queries.count))
    app.config.update(
        SECRET_KEY=config["secret"],
        REPO_NOTIFY_MONGO_URI=config["mongo_uri"],
        REPO_NOTIFY_USERS_COLLECTION=config["users_collection"],
        REPO_NOTIFY_API_KEY=config["api_key"],
        REPO_NOTIFY_PERMISSION_CACHE_SECONDS=config["cache_seconds"],
        REPO_NOTIFY_RECHECK_SECONDS=config["recheck_seconds"],
        REPO_NOTIFY_PING_INTERVAL=config["ping_seconds"],
        REPO_NOTIFY_PING_TIMEOUT=config["ping_seconds"],
        # As on the peers: the positions of a history are further bytes, of no fixed number.
        REPO_NOTIFY_HISTORY="memory" if config["recovery"] else "off",
        REPO_NOTIFY_BACKEND_QUEUE=config["backend_queue"] or None,
        REPO_NOTIFY_BACKEND_EXCHANGE=config["backend_exchange"],
    )
    app.config.update(config["settings"])
    notify = RepoNotify(app)
    use_sessions(app, config)

    def publish(place: dict[str, str], data: dict[str, Any]) -> None:
        # A replay may leave out a change that a later one supersedes, but never a creation.
        event = TicketCreated if "_id" in data else ModelSettingsUpdated
        notify.publish(event(kind="container", data=data, **place))

    add_control(app, config["room"], publish)
    turns = Turns()
    app.add_url_rule("/bench/turns", "turns", view_func=lambda: jsonify(turns.longest()))
    return app


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    serve(make_app(told), host="127.0.0.1", port=told["port"], on_ready=lambda url: print(url, flush=True))
