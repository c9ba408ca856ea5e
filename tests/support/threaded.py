"""Flask's own threaded server within the tests' process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask
from werkzeug.serving import make_server

from repo_notify.serving import shut_down, state_of
from tests.support.unmeasured import unmeasured


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve an app that has the extension, for the length of the block; its address."""
    with unmeasured(), _serving(app) as url:
        yield url


@contextmanager
def _serving(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    # A client that is still connected must not keep the server from ending.
    server.daemon_threads = True  # type: ignore[attr-defined]  # of socketserver.ThreadingMixIn
    server.block_on_close = False  # type: ignore[attr-defined]  # as above
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        shut_down(state_of(app))
        server.shutdown()
        thread.join()
        server.server_close()
