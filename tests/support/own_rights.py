"""A host app with rights of its own and no MongoDB: `own_rights.py <config as JSON>`; prints the port when it listens.

`POST /rights` sets what the loader returns: `{"granted": [[username, teamspace, project, model], …], "answer": …}`,
`answer` in the place of True where it is given. With `fails` it raises, with `asks` it reads the request. `GET /rights`
returns what it was asked, in order.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json
import sys
from typing import Any

from flask import Flask, current_app, jsonify, request

from repo_notify import RepoNotify
from repo_notify.serving import serve
from tests.support.host_app import add_routes


def make_app(config: dict[str, Any]) -> Flask:
    app = Flask("host")
    app.config.update(SECRET_KEY="a host's own key", RIGHTS={"granted": []}, ASKED=[], **config)
    notify = RepoNotify(app)

    @notify.permission_loader
    def may_enter(username: str, teamspace: str, project: str | None, model: str | None) -> Any:
        asked = [username, teamspace, project, model]
        current_app.config["ASKED"].append(asked)
        rights = current_app.config["RIGHTS"]
        if rights.get("asks"):
            return bool(request.path)
        if rights.get("fails"):
            raise LookupError("the rights cannot be read")
        return rights.get("answer", True) if asked in rights["granted"] else False

    @app.route("/rights", methods=["GET", "POST"])
    def rights() -> Any:
        if request.method == "POST":
            app.config["RIGHTS"] = request.get_json()
        return jsonify(app.config["ASKED"])

    add_routes(app, notify)
    return app


if __name__ == "__main__":
    made = make_app(json.loads(sys.argv[1]))
    serve(made, host="127.0.0.1", port=0, on_ready=lambda url: print(url.rsplit(":", 1)[1], flush=True))
