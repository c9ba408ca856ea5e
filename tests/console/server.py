"""The demo as its users start it, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

STOP_SECONDS = 20


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Demo:
    """`repo-notify demo` on a free port, with its own data directory and the embedded database."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._port = free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.netloc}/"

    def start(self) -> None:
        """Start it and wait until it says where it runs. Raises AssertionError with its output when it ends instead."""
        data_dir = str(self._data_dir)
        command = [sys.executable, "-m", "repo_notify", "demo", "--host", "127.0.0.1", "--port", str(self._port)]
        # stderr goes to a file: nobody reads it while the demo runs, and a full pipe would stop it.
        self._data_dir.mkdir(parents=True, exist_ok=True)
        with (self._data_dir / "stderr.log").open("a") as errors:
            self._process = subprocess.Popen(
                [*command, "--data-dir", data_dir], stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment()
            )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if self.url in line:
                return
        raise AssertionError("the demo ended:\n" + "".join(said) + (self._data_dir / "stderr.log").read_text())

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        finally:
            self._process.kill()
            self._process = None


def _environment() -> dict[str, str]:
    """The environment without settings that would make it another demo."""
    return {key: value for key, value in os.environ.items() if not key.startswith("REPO_NOTIFY_")}
