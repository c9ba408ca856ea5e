"""Counting what arrives: in C where there is a compiler, else in Python, which is slower and said so in the report."""

from __future__ import annotations

import ctypes
import re
import select
import socket
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.build import compiled

SOURCE = Path(__file__).with_name("drain.c")
MARK = re.compile(rb'"at":"(\d{19})')
CHUNK = 1 << 18
POLL_SECONDS = 0.005
# Between two looks, so that no sender has to wake the reader for each frame: real clients are on other machines.
NAP_SECONDS = 0.000_3


@dataclass(frozen=True)
class Drained:
    """What was read: bytes, when the last came (ns of CLOCK_MONOTONIC), the events' ages in ns, sockets that ended."""

    bytes: int
    finished: int
    ages: list[int]
    closed: int


class _Result(ctypes.Structure):
    _fields_ = [(name, ctypes.c_longlong) for name in ("bytes", "finished", "ages", "closed")]


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled reader, None where there is no compiler."""
    path = compiled(SOURCE, shared=True)
    return ctypes.CDLL(str(path)) if path is not None else None


def drain(epoll: select.epoll, want: int, seconds: float, quiet: float = -1.0, ages: int = 0) -> Drained:
    """Read until `want` bytes have come (-1: no end), `seconds` are over, or nothing comes for `quiet` seconds.

    The ages of up to `ages` events are taken; then it looks without a pause. The registered sockets do not block.
    """
    native = library()
    if native is None:
        return drain_in_python(epoll, want, seconds, quiet, ages)
    kept = (ctypes.c_longlong * max(1, ages))()
    result = _Result()
    native.drain(
        ctypes.c_int(epoll.fileno()),
        ctypes.c_longlong(want),
        ctypes.c_double(seconds),
        ctypes.c_double(quiet),
        ctypes.c_double(0 if ages else NAP_SECONDS),
        kept,
        ctypes.c_longlong(ages),
        ctypes.byref(result),
    )
    return Drained(result.bytes, result.finished, list(kept[: result.ages]), result.closed)


def drain_in_python(epoll: select.epoll, want: int, seconds: float, quiet: float = -1.0, ages: int = 0) -> Drained:
    """Do what `drain` does, without a compiler."""
    last = finished = time.monotonic_ns()
    deadline = last + int(seconds * 1e9)
    total, closed = 0, 0
    kept: list[int] = []
    while want < 0 or total < want:
        ready = epoll.poll(POLL_SECONDS)
        for number, _ in ready:
            data = _read(number)
            if data == b"":
                epoll.unregister(number)
                closed += 1
            elif data is not None:
                total += len(data)
                kept += [time.monotonic_ns() - int(due) for due in MARK.findall(data)] if len(kept) < ages else []
        now = time.monotonic_ns()
        if ready:
            finished = last = now
        if now > deadline or (quiet >= 0 and now - last > quiet * 1e9):
            break
        if ready and not ages:
            time.sleep(NAP_SECONDS)
    return Drained(total, finished, kept[:ages], closed)


def _read(number: int) -> bytes | None:
    """Return what has come, b"" at the end, None when there is nothing after all. The number stays open."""
    borrowed = socket.socket(fileno=number)
    try:
        return borrowed.recv(CHUNK)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""
    finally:
        borrowed.detach()
