"""For `pytest -p tests.support.measured_threads`: measure a run whose tests use threads, in any directory.

Measured for gevent, as other processes are, it might stay for ever in what `fork_server.measure` tells of.
"""

from __future__ import annotations

from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]

coverage.Coverage(concurrency=["thread"], auto_data=True, config_file=str(ROOT / "pyproject.toml")).start()
