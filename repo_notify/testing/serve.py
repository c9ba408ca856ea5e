"""`python -m repo_notify.testing.serve package.module:app_or_factory`: an app under test in a process of its own.

Prints the address when it listens, and ends with its standard input.
"""

from gevent import monkey

monkey.patch_all()

import importlib
import os
import signal
import sys

import gevent
from flask import Flask

from repo_notify.serving import serve


def load(target: str) -> Flask:
    """Return the app that `package.module:name` is or makes."""
    module, _, name = target.partition(":")
    sys.path.insert(0, os.getcwd())
    found = getattr(importlib.import_module(module), name or "create_app")
    app = found if isinstance(found, Flask) else found()
    assert isinstance(app, Flask), f"{target} is no Flask app and makes none"
    return app


def end_with_input() -> None:
    """Wait until whoever started this process is gone."""
    gevent.get_hub().threadpool.apply(sys.stdin.buffer.read)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    app = load(sys.argv[1])
    gevent.spawn(end_with_input)
    serve(app, host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True))  # noqa: T201 - its protocol
