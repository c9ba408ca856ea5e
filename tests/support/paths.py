"""Which of our functions a join and a published event pass on our engine: `python -m tests.support.paths <MongoDB>`.

Prints a JSON object with the functions of each, in the order of their first call. With `--write` behind the address, of
a database that the demo has seeded, the lists in docs/architecture.md are written anew instead.
"""

from gevent import monkey

monkey.patch_all()

import importlib.util
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
from tests.support.paths_document import DOCUMENT, written

OURS = tuple(str(Path(repo_notify.__file__).parents[1] / name) + "/" for name in ("repo_notify", "legacy_v4"))
ROOM = {"teamspace": TEAMSPACE, "project": TOWER, "model": STRUCTURE}
# What is remembered of the first steps is part of the design, and what happens by the way is not in each of the others.
FIRST, ROUNDS = 2, 5


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


def main(mongo_uri: str, *options: str) -> None:
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="paths", REPO_NOTIFY_MONGO_URI=mongo_uri, REPO_NOTIFY_USERS_COLLECTION="users",
        REPO_NOTIFY_RECHECK_SECONDS=0, REPO_NOTIFY_LEGACY_V4=importlib.util.find_spec("legacy_v4") is not None,
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
    # With the position behind it, as behind all that follows.
    client.recv()
    client.recv()
    found = {"join": call(lambda: ask(client)), "publish": call(lambda: publish(notify, client))}
    client.close()
    server.stop()
    if "--write" in options:
        for name, functions in found.items():
            DOCUMENT.write_text(written(DOCUMENT.read_text(), name, functions))
    else:
        print(json.dumps(found))


def call(step: Any) -> list[str]:
    """The functions that each of the later rounds of a step passes."""
    trace = Trace()
    rounds: list[list[str]] = []
    for _ in range(ROUNDS):
        with trace:
            step()
        rounds.append(list(trace.passed))
    return [function for function in rounds[-1] if all(function in passed for passed in rounds[FIRST:])]


def ask(client: websocket.WebSocket) -> None:
    client.send("42" + json.dumps(["join", ROOM]))
    client.recv()
    client.recv()


def publish(notify: RepoNotify, client: websocket.WebSocket) -> None:
    notify.publish(events.RevisionCreated(**ROOM, kind="container", data={"_id": "r"}))
    gevent.sleep(0)
    client.recv()
    client.recv()


if __name__ == "__main__":
    main(*sys.argv[1:])
