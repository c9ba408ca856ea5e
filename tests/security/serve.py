"""The tests' host app, with routes that count what is alive: `python -m tests.security.serve <config as JSON>`."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import dataclasses
import gc
import os
from typing import Any

import gevent
from flask import Flask, jsonify

from repo_notify.extension import NAME
from repo_notify.serving import serve
from repo_notify.state import State
from tests.support.host_app import make_app, options


def add_routes(app: Flask) -> None:
    state: State = app.extensions[NAME]
    server = state.socketio.server

    @app.get("/alive")
    def alive() -> Any:
        """What is alive, and the process's resident memory in bytes."""
        gc.collect()
        with open("/proc/self/statm") as found:
            memory = int(found.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return jsonify(
            connections=len(server.eio.sockets),
            kept=[len(server.environ), sum(map(len, server.manager.rooms.values())), len(state.identities.bound())],
            namespaces=server.manager.get_namespaces(),
            tasks=sum(isinstance(found, gevent.Greenlet) and not found.dead for found in gc.get_objects()),
            timers=len(server.eio.timers),
            memory=memory,
        )

    @app.post("/end-polling")
    def end_polling() -> Any:
        """As heartbeats would, which a test has no time for."""
        for sid, connection in list(server.eio.sockets.items()):
            if not connection.upgraded:
                server.eio.disconnect(sid)
        return jsonify({})


if __name__ == "__main__":
    app = make_app(options)
    add_routes(app)
    server = app.extensions[NAME].socketio.server
    hasty = {"attachments_timeout": 0.5, "close_timeout": 0.5, "upgrade_timeout": 0.5}
    server.options = server.eio.options = dataclasses.replace(server.options, **hasty)
    serve(app, host="127.0.0.1", port=0, on_ready=lambda url: print(url.rsplit(":", 1)[1], flush=True))
