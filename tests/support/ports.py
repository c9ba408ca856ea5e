"""Free loopback ports for servers that cannot pick one themselves, and for addresses at which nobody listens."""

from __future__ import annotations

import itertools
import os
import random
import re
import socket

# Below what the kernel gives out by itself, and for each of pytest's workers its own: between asking for a port and
# using it nobody else takes it, and where a test wants nobody to listen nobody does.
FIRST, OF_A_WORKER, WORKERS = 10_000, 1_500, 14


def _ports() -> itertools.cycle[int]:
    worker = int((re.findall(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", "")) or ["0"])[0])
    first = FIRST + worker % WORKERS * OF_A_WORKER
    # Another process of the same worker, such as a test's own program, begins elsewhere.
    start = random.Random(os.getpid()).randrange(OF_A_WORKER)
    return itertools.cycle(first + (start + number) % OF_A_WORKER for number in range(OF_A_WORKER))


_CYCLE = _ports()


def free_port() -> int:
    """Return a loopback port on which nobody listens."""
    for port in _CYCLE:
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is always a next one")
