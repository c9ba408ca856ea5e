"""A program that prints: its lines are awaited, and it ends with the test."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

SECONDS = 60.0


class Program:
    """A running program; `line` waits for what it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._seen: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self, containing: str, seconds: float = SECONDS) -> str:
        """Return the next line with that text in it, past any others."""
        end = monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(end - monotonic(), 0.01))
            except queue.Empty:
                line = None
            assert line is not None, f"it did not print {containing!r} but {self._seen}"
            self._seen.append(line)
            if containing in line:
                return line

    def so_far(self) -> list[str]:
        """Return the lines that have been waited for or passed."""
        return list(self._seen)

    def say(self, line: str) -> None:
        """Write a line to the program."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """Kill it, and wait for its end."""
        self.process.kill()
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


@contextmanager
def printing(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Iterator[Program]:
    """Run a command in that folder for the length of the block; what it says on stderr are lines too."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        program = Program(process)
        try:
            yield program
        finally:
            program.close()
