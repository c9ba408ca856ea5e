"""What is not measured for coverage, as it would only be slower."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from repo_notify.testing.embedded import MEMORY, EmbeddedMongo
from tests.support.fork_server import COVERAGE


@contextmanager
def unmeasured() -> Iterator[None]:
    """Do not measure this process during the block, nor the threads that it starts (`fork_server.measure`)."""
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage is not None else None
    if measuring is None:
        yield
        return
    measuring.stop()
    try:
        yield
    finally:
        measuring.start()


@contextmanager
def unmeasured_children() -> Iterator[None]:
    """Do not measure the processes that are started during the block."""
    kept = {name: os.environ.pop(name) for name in COVERAGE if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextmanager
def embedded_mongo() -> Iterator[EmbeddedMongo]:
    """An embedded database in memory whose process is not measured."""
    with ExitStack() as stack:
        with unmeasured_children():
            embedded = stack.enter_context(EmbeddedMongo(MEMORY))
        yield embedded
