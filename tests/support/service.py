"""The standalone service as a process, in each of the ways that the documentation shows."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.command import environment
from tests.support.served import SECONDS, Served, running
from tests.support.until import until

ROOT = Path(__file__).parent.parent.parent
# The key of `host_app`, whose sessions the service reads.
HOST_KEY = "a host's own key"
API_KEY = "key"
USERS = "users"
# Each imports everything anew, with others beside it.
START_SECONDS = 60.0
OUR_WORKER = "repo_notify.gunicorn.Worker"
STOCK_WORKER = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"


def _gunicorn(worker: str) -> list[str]:
    bound = ["--bind", "127.0.0.1:{port}", "--log-level", "warning", "--graceful-timeout", "2"]
    return ["-m", "gunicorn", "-k", worker, "wsgi:app", "--chdir", str(ROOT), *bound]


COMMANDS: dict[str, list[str]] = {
    "wsgi.py": [str(ROOT / "wsgi.py")],
    "gunicorn": _gunicorn(OUR_WORKER),
    "gunicorn, stock worker": _gunicorn(STOCK_WORKER),
    "serve": ["-m", "repo_notify", "serve", "--config", str(ROOT / "config"), "--port", "{port}"],
}


def command(way: str, port: int) -> list[str]:
    """Return Python's arguments that start the service on that port."""
    return [word.format(port=port) for word in COMMANDS[way]]


def service_environment(mongo_uri: str, **environ: str) -> dict[str, str]:
    defaults = {
        "REPO_NOTIFY_ENV": "testing",
        "REPO_NOTIFY_MONGO_URI": mongo_uri,
        "REPO_NOTIFY_USERS_COLLECTION": USERS,
        "REPO_NOTIFY_API_KEY": API_KEY,
        "SECRET_KEY": HOST_KEY,
        "HOST": "127.0.0.1",
        # v5 is served all the same where `legacy_v4` was deleted.
        "REPO_NOTIFY_LEGACY_V4": "yes" if importlib.util.find_spec("legacy_v4") else "no",
    }
    return environment(**{**defaults, **environ})


def answers(url: str) -> bool:
    try:
        return requests.get(url + "/notify/healthz", timeout=SECONDS).status_code == 200
    except requests.ConnectionError:
        return False


@contextmanager
def service(command: list[str], env: dict[str, str], port: int) -> Iterator[Served]:
    """Run the service with that command; the block begins when it answers."""
    with running([sys.executable, *command], {**env, "PORT": str(port), "PYTHONPATH": str(ROOT)}) as process:
        served = Served(f"http://127.0.0.1:{port}", process)
        until(lambda: answers(served.url) or process.poll() is not None, seconds=START_SECONDS)
        assert process.poll() is None, "the service did not start"
        yield served
