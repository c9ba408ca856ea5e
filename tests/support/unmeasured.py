"""Processes that are none of ours: measured for coverage they would only be slower."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from repo_notify.demo.embedded import MEMORY, EmbeddedMongo

# By these coverage reaches a subprocess.
VARIABLES = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


@contextmanager
def embedded_mongo() -> Iterator[EmbeddedMongo]:
    """An embedded database in memory whose process is not measured."""
    with ExitStack() as stack:
        kept = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
        try:
            embedded = stack.enter_context(EmbeddedMongo(MEMORY))
        finally:
            os.environ.update(kept)
        yield embedded
