"""One client that joins many rooms in one go, as a frontend does after a reconnect."""

from __future__ import annotations

import time

from benchmarks.load.audience import LoadError, Script
from benchmarks.load.probe import enter

JOIN_SECONDS = 60.0
GRANTED, REFUSED = b'42["message"', b'42["error"'


def join_rooms(script: Script, joins: bytes, count: int) -> float:
    """Send `count` prebuilt joins at once; return the seconds until the last is answered. Raises `LoadError`."""
    client = enter(script)
    client.settimeout(JOIN_SECONDS)
    received, granted = b"", 0
    try:
        started = time.monotonic()
        client.sendall(joins)
        while (granted := received.count(GRANTED)) < count:
            more = client.recv(1 << 18)
            received += more
            if not more or REFUSED in received:
                raise LoadError(f"of {count} joins {granted} were granted, then: {received[-300:]!r}")
        return time.monotonic() - started
    except TimeoutError:
        raise LoadError(f"of {count} joins {granted} were answered in {JOIN_SECONDS:g} s") from None
    finally:
        client.close()
