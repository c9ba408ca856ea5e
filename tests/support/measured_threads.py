"""Measure a run of pytest for threads alone, and what it starts as before; `-p tests.support.measured_threads` does so.

`tests/conftest.py` does it for our own tests. Measured for gevent, such a process might stay for ever in what
`fork_server.measure` tells of: it holds threads of pymongo and of pytest-xdist, which end together.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import Any

from tests.support.fork_server import COVERAGE

ROOT = Path(__file__).parents[2]


def pytest_configure() -> None:
    """Go on measuring this process, if it is measured, on threads."""
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage is not None else None
    if coverage is None or measuring is None:
        return
    measuring.stop()
    measuring.save()
    # Another measurement would tell its own ways to the processes that are started.
    told = {name: os.environ[name] for name in COVERAGE if name in os.environ}
    # Not by `auto_data`: that would forget what was measured whenever it goes on (`unmeasured`).
    on_threads = coverage.Coverage(concurrency=["thread"], config_file=str(ROOT / "pyproject.toml"))
    on_threads.start()
    atexit.register(_end, on_threads)
    os.environ.update(told)


def _end(measuring: Any) -> None:
    measuring.stop()
    measuring.save()
