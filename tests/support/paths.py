"""Which of our functions a join and a published event pass on our engine: `python -m tests.support.paths <MongoDB>`.

Prints a JSON object with the functions of each, in the order of their first call.
"""

from gevent import monkey

monkey.patch_all()

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import gevent
import websocket
from flask import Flask, session

import repo_notify
from repo_notify import RepoNotify, events
from repo_notify.demo.seed import STRUCTURE, TEAMSPACE, TOWER
from repo_notify.engine.pywsgi.server import LazySocketServer

OURS = tuple(str(Path(repo_notify.__file__).parents[1] / name) + "/" for name in ("repo_notify", "legacy_v4"))
ROOM = {"teamspace": TEAMSPACE, "project": TOWER, "model": STRUCTURE}
ROUNDS = 3


class Trace:
    """Collects the functions of ours that are called while it is on."""

    def __init__(self) -> None:
        self.passed: dict[str, None] = {}

    def __call__(self, frame: FrameType, what: str, _: Any) -> None:
        code = frame.f_code
        if what == "call" and code.co_filename.startswith(OURS) and not code.co_name.startswith("<"):
            path = code.co_filename.removeprefix(OURS[0]).removesuffix(".py")
            self.passed.setdefault(f"{path}:{getattr(code, 'co_qualname', code.co_name)}")

    def __enter__(self) -> "Trace":
        self.passed.clear()
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def main(mongo_uri: str) -> None:
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="paths", REPO_NOTIFY_MONGO_URI=mongo_uri, REPO_NOTIFY_USERS_COLLECTION="users",
        REPO_NOTIFY_RECHECK_SECONDS=0,
    )
    notify = RepoNotify(app)

    @app.post("/login")
    def log_in() -> str:
        session["user"] = {"username": "alice"}
        return ""

    cookie = app.test_client().post("/login").headers["Set-Cookie"].partition(";")[0]
    server = LazySocketServer(("127.0.0.1", 0), app, log=None)
    server.start()
    client = websocket.create_connection(
        f"ws://127.0.0.1:{server.server_port}/chat?EIO=4&transport=websocket", header=[f"Cookie: {cookie}"]
    )
    client.recv()
    client.send("40")
    client.recv()
    found = {"join": call(lambda: ask(client)), "publish": call(lambda: publish(notify, client))}
    print(json.dumps(found))
    client.close()
    server.stop()


def call(step: Any) -> list[str]:
    """The functions of a step that was taken before, as what is remembered of the first is part of the design."""
    trace = Trace()
    for _ in range(ROUNDS):
        with trace:
            step()
    return list(trace.passed)


def ask(client: websocket.WebSocket) -> None:
    client.send("42" + json.dumps(["join", ROOM]))
    client.recv()


def publish(notify: RepoNotify, client: websocket.WebSocket) -> None:
    notify.publish(events.RevisionCreated(**ROOM, kind="container", data={"_id": "r"}))
    gevent.sleep(0)
    client.recv()


if __name__ == "__main__":
    main(sys.argv[1])
