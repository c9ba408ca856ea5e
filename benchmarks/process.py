"""What a process costs, as /proc tells it, and what it may open."""

from __future__ import annotations

import resource
import time
from pathlib import Path

SETTLE_SECONDS = 60.0
LOOK_SECONDS = 0.1
IDLE_SHARE = 0.03


def raise_open_files() -> None:
    """Let this process, and those that it starts, open as many files as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def machine_busy(seconds: float) -> float:
    """Return the share of all processors that was used within so many seconds (proc(5), `/proc/stat`)."""
    idle, total = _machine_ticks()
    # There is nothing to wait for but time.
    time.sleep(seconds)
    idle_now, total_now = _machine_ticks()
    passed = total_now - total
    return 1 - (idle_now - idle) / passed if passed else 0.0


def _machine_ticks() -> tuple[int, int]:
    """Return the idle ticks of all processors since the boot, and all their ticks."""
    ticks = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that all threads of a process have used, in seconds.

    From `schedstat`, which counts nanoseconds; `stat` counts ticks of 10 ms, too coarse for a storm that takes 4 ms.
    """
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        # The thread has ended since the directory was read.
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / 1e9


def memory_bytes(pid: int, kind: str = "Pss") -> int:
    """Return a process's proportional (`Pss`) or resident (`Rss`) memory in bytes, from `smaps_rollup`."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"smaps_rollup has no {kind}")


def reset_peak(pid: int) -> None:
    """Have a process's `peak_bytes` begin at what it has now (proc(5), `clear_refs`)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """Return the most resident memory that a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("status has no VmHWM")


def settle(pid: int) -> None:
    """Wait until a process has worked off what it was given: it is idle in two looks running, or a minute is over.

    Nobody asks the server itself: the question would cost it CPU time.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    quiet, before, at = 0, cpu_seconds(pid), time.monotonic()
    while quiet < 2 and time.monotonic() < deadline:
        # There is nothing to wait for but time: the figure is how little a foreign process does in it.
        time.sleep(LOOK_SECONDS)
        now, now_at = cpu_seconds(pid), time.monotonic()
        quiet = quiet + 1 if now - before < IDLE_SHARE * (now_at - at) else 0
        before, at = now, now_at
