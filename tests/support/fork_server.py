"""Python programs forked from a process that has imported the libraries already: `ForkServer().start(...)`.

Importing them takes a server longer than most tests last, and twice as long under coverage. Our own packages are not
imported beforehand: each program does that, measured like any other. Settings of the interpreter (`PYTHON*`) are the
fork server's. `python -m tests.support.fork_server <socket> <patched or plain>` is the process.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import cache

# Of Python itself, also where gevent has replaced them.
from os import fork, waitpid
from select import select
from signal import set_wakeup_fd
from signal import signal as handle
from types import FrameType
from typing import IO, Any

SECONDS = 30
MESSAGE_BYTES = 1 << 20
# By these coverage reaches a process.
COVERAGE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
LIBRARIES = (
    "coverage", "bson", "cachetools", "click", "flask", "flask_login", "flask_session", "flask_socketio",
    "gevent.pywsgi", "geventwebsocket.handler", "kombu", "marshmallow", "prometheus_client", "pymongo",
    "pymongo.monitoring", "redis", "requests", "socketio", "trustme", "werkzeug.serving",
)


class Forked:
    """A forked program; named as in `subprocess.Popen`."""

    def __init__(self, status: IO[str], stdout: IO[str]) -> None:
        self._status = status
        self.stdout = stdout
        self.pid = int(status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Return the exit code, minus the signal's number where one ended it, within that many seconds."""
        if self.returncode is None:
            if not select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = os.waitstatus_to_exitcode(int(self._status.readline()))
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait(SECONDS)
        self.stdout.close()
        self._status.close()


class ForkServer:
    """The process that programs are forked from; `patched`, where they run on gevent, else on threads."""

    def __init__(self, *, patched: bool) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [str(theirs.fileno()), "patched" if patched else "plain"]
        command = [sys.executable, "-m", "tests.support.fork_server", *arguments]
        # Measured is what it forks.
        environ = {name: value for name, value in os.environ.items() if name not in COVERAGE}
        with theirs:
            self._process = subprocess.Popen(command, env=environ, pass_fds=[theirs.fileno()])

    def start(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str],
        stdin: int = 0,
        stdout: int | None = None,
        stderr: int = 2,
    ) -> Forked:
        """Run a module as `python -m` does, on these file descriptors; without `stdout` there is a pipe to read."""
        program = json.dumps({"module": module, "arguments": arguments, "env": dict(env)}).encode()
        status, told = os.pipe()
        output, written = os.pipe()
        try:
            descriptors = [told, stdin, written if stdout is None else stdout, stderr]
            socket.send_fds(self._control, [program], descriptors)
        finally:
            os.close(told)
            os.close(written)
        return Forked(open(status), open(output))

    def close(self) -> None:
        """End the process and whatever it still runs."""
        self._control.close()
        self._process.wait(SECONDS)


@cache
def fork_server(*, patched: bool) -> ForkServer:
    """Return this process's fork server of that kind."""
    made = ForkServer(patched=patched)
    atexit.register(made.close)
    return made


class Nurse:
    """The loop of the fork server's process: forks what is asked for, and tells how it ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._woken, self._wake = os.pipe()
        self._watched: dict[int, int] = {}
        os.set_blocking(self._wake, False)
        set_wakeup_fd(self._wake)
        handle(signal.SIGCHLD, self._ignore)

    @staticmethod
    def _ignore(number: int, frame: FrameType | None) -> None:
        """Not SIG_IGN, by which nobody would learn how a child ended."""

    def next_program(self) -> dict[str, Any] | None:
        """Return, in a forked child only, the program to run; None in the fork server, when nobody asks any more."""
        while True:
            ready, _, _ = select([self._control.fileno(), self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 512)
                self._reap()
            if self._control.fileno() in ready:
                message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 4)
                if not message:
                    self._end()
                    return None
                told, *standard = descriptors
                if not (pid := fork()):
                    self._become_child([told, *self._watched.values()], standard)
                    return dict(json.loads(message))
                self._watched[pid] = told
                os.write(told, b"%d\n" % pid)
                for descriptor in standard:
                    os.close(descriptor)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (found := waitpid(-1, os.WNOHANG))[0]:
                told = self._watched.pop(found[0])
                with suppress(BrokenPipeError):
                    os.write(told, b"%d\n" % found[1])
                os.close(told)

    def _become_child(self, not_ours: list[int], standard: list[int]) -> None:
        set_wakeup_fd(-1)
        handle(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for descriptor in (*not_ours, self._woken, self._wake):
            os.close(descriptor)
        for place, descriptor in enumerate(standard):
            os.dup2(descriptor, place)
            os.close(descriptor)

    def _end(self) -> None:
        for pid in self._watched:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def measure(kind: str) -> None:
    """Begin to measure this process, if processes are measured."""
    if not any(name in os.environ for name in COVERAGE):
        return
    import coverage

    if kind == "patched":
        coverage.process_startup()
    else:
        # To tell greenlets apart, coverage makes one in each thread; when two threads end at once, Python 3.11 then
        # stays for ever in the first of the pending calls that clear them away, where the main thread is traced.
        coverage.Coverage(concurrency=["thread"], auto_data=True).start()


def run(program: dict[str, Any], kind: str) -> None:
    os.environ.clear()
    os.environ.update(program["env"])
    measure(kind)
    sys.argv[1:] = program["arguments"]
    runpy.run_module(program["module"], run_name="__main__", alter_sys=True)


def main(descriptor: str, kind: str) -> None:
    with closing(socket.socket(fileno=int(descriptor))) as control:
        if kind == "patched":
            from gevent import monkey

            monkey.patch_all()
        for library in LIBRARIES:
            # The oldest versions lack some.
            with suppress(ImportError):
                importlib.import_module(library)
        # What all have in common stays common.
        gc.freeze()
        program = Nurse(control).next_program()
    if program is not None:
        run(program, kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
