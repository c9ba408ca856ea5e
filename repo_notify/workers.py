"""Several processes that serve on one port: a parent that starts them, watches them, and ends them in order.

Each worker listens by itself (`SO_REUSEPORT`), so that the kernel gives a connection to one that is ready for it. The
parent keeps the port, and serves nobody.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.os import make_nonblocking, nb_read

from .errors import NotifyError, SettingsError
from .setting_values import HISTORY_MONGODB
from .settings import Settings

logger = logging.getLogger(__name__)

# One that ended sooner is started again later and later.
STABLE_SECONDS = 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
# What a worker takes to end beside its REPO_NOTIFY_SHUTDOWN_TIMEOUT.
GRACE_SECONDS = 3.0


class WorkersFailed(NotifyError):
    """The first worker ended before it served; what is wrong stands in its own words above."""


def require_sharing(settings: Settings) -> None:
    """Raise `SettingsError` naming what keeps several processes from serving as one."""
    problems = []
    if not sys.platform.startswith("linux"):
        problems.append("--workers needs Linux, which divides the connections of one port among processes")
    if settings.history == HISTORY_MONGODB:
        problems.append(
            "REPO_NOTIFY_HISTORY should be the address of a Redis for several workers: in MongoDB it is for one process"
        )
    elif not settings.shares_history and settings.message_queue is None:
        problems.append(
            "REPO_NOTIFY_HISTORY should be the address of a Redis for several workers, or REPO_NOTIFY_MESSAGE_QUEUE be "
            "set: by it the clients of each hear what the others publish"
        )
    if problems:
        raise SettingsError(problems)


@contextlib.contextmanager
def kept_port(host: str, port: int) -> Iterator[int]:
    """Keep a port for the workers for the length of the block, and yield it; 0: a free one. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            # Beside another service of ours, which shares its port too, nobody could bind it without sharing.
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
            port = int(alone.getsockname()[1])
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((host, port))
        yield port


def end_with_parent() -> None:
    """Have this worker end in order when its parent is no more: then its standard input ends."""
    make_nonblocking(sys.stdin.fileno())

    gevent.spawn(_watch_parent)


def _watch_parent() -> None:
    while nb_read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


class Workers:
    """So many processes of one command; a worker says that it serves by a line on its standard output."""

    def __init__(self, command: Sequence[str], number: int, *, shutdown_timeout: float) -> None:
        self._command = list(command)
        self._number = number
        self._patience = shutdown_timeout + GRACE_SECONDS
        self._running: set[subprocess.Popen[str]] = set()
        self._ending = Event()

    def run(self, on_ready: Callable[[], Any]) -> None:
        """Keep them running until SIGTERM or SIGINT; `on_ready` is called when the first one serves.

        Raises `WorkersFailed` where the first one cannot.
        """
        watchers = [gevent.signal_handler(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)]
        keepers: list[Any] = []
        try:
            first = self._start()
            if self._serves(first):
                on_ready()
            elif not self._ending.is_set():
                raise WorkersFailed(f"the first worker did not start: it {_how(first.wait())}")
            keepers = [gevent.spawn(self._keep, first), *(gevent.spawn(self._keep) for _ in range(self._number - 1))]
            self._ending.wait()
        finally:
            for watcher in watchers:
                watcher.cancel()
            self._stop()
            self._end(keepers)

    def _keep(self, process: subprocess.Popen[str] | None = None) -> None:
        """Run one worker after the other, beginning with `process` if one is given."""
        pause = FIRST_PAUSE_SECONDS
        while not self._ending.is_set():
            started = monotonic()
            worker = process or self._start()
            process = None
            while self._serves(worker):
                pass
            code = worker.wait()
            self._forget(worker)
            if monotonic() - started >= STABLE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            if not self._ending.is_set():
                logger.error("worker %d %s; another one starts in %g s", worker.pid, _how(code), pause)
                self._ending.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _start(self) -> subprocess.Popen[str]:
        # A session of its own: a terminal's Ctrl-C is the parent's, which ends them in order.
        process = subprocess.Popen(  # noqa: S603 - this very program
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._running.add(process)
        return process

    @staticmethod
    def _serves(worker: subprocess.Popen[str]) -> bool:
        """Wait for a line of a worker's; return whether there is one, and not the end of it."""
        assert worker.stdout is not None
        return bool(worker.stdout.readline())

    def _forget(self, worker: subprocess.Popen[str]) -> None:
        self._running.discard(worker)
        for pipe in (worker.stdin, worker.stdout):
            assert pipe is not None
            pipe.close()

    def _stop(self) -> None:
        """Have all of them end in order."""
        self._ending.set()
        for worker in self._running:
            worker.terminate()

    def _end(self, keepers: Sequence[Any]) -> None:
        """Wait for all of them, and kill whoever takes too long."""
        gevent.joinall(keepers, timeout=self._patience)
        for worker in list(self._running):
            if worker.poll() is None:
                logger.warning("worker %d did not end in %g s and is killed", worker.pid, self._patience)
                worker.kill()
        gevent.joinall(keepers)


def _how(code: int) -> str:
    """Return how a process ended, in words."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
