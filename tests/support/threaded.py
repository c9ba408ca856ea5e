"""Flask's own threaded server within the tests' process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from repo_notify.serving import shut_down, state_of
from repo_notify.testing.served import in_thread
from tests.support.unmeasured import unmeasured


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve an app that has the extension, for the length of the block, and end its background work; its address."""
    with unmeasured(), in_thread(app) as server:
        try:
            yield server.url
        finally:
            shut_down(state_of(app))
