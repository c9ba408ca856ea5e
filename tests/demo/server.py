"""The demo's app as a program of its own: `python -m tests.demo.server <mongo uri>`; seeds, serves, prints its port."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys
from typing import Any

from pymongo import MongoClient

from repo_notify.demo.api import create_demo_app
from repo_notify.demo.seed import seed
from repo_notify.serving import serve

if __name__ == "__main__":
    uri = sys.argv[1]
    client: MongoClient[dict[str, Any]]
    with MongoClient(uri) as client:
        seed(client, users_collection="users")
    app = create_demo_app(mongo_uri=uri, users_collection="users", SECRET_KEY="test")
    serve(app, host="127.0.0.1", port=0, on_ready=lambda url: print(url.rsplit(":", 1)[1], flush=True))
