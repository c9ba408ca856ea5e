"""Waiting for a served app to hear of what happens in MongoDB."""

from __future__ import annotations

from repo_notify.testing.client import Client
from tests.support.metrics import metric
from tests.support.served import Served
from tests.support.until import until


def await_stream(served: Served) -> None:
    """Wait until changes are seen as they happen; it is a process's first connection that begins that."""
    with Client(served.url):
        until(lambda: metric(served, "repo_notify_change_stream_up") == 1)
