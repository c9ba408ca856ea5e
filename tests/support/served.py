"""Servers as processes of their own: started, awaited and stopped by process id."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.fork_server import Forked, fork_server

SECONDS = 30


@dataclass(frozen=True)
class Served:
    """A served app: its address and its process."""

    url: str
    process: subprocess.Popen[str] | Forked

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@dataclass
class User:
    """Somebody who uses the REST API of a served app; `headers` go with each request."""

    server: Served
    http: requests.Session = field(default_factory=requests.Session)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def cookie(self) -> str:
        """The session cookie, as the header of a handshake."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.http.cookies)

    def log_in(self, username: str, socket_id: str | None = None) -> User:
        self.post("/login", {"username": username}, socket_id).raise_for_status()
        return self

    def post(self, path: str, body: Any = None, socket_id: str | None = None) -> requests.Response:
        headers = {**self.headers, **({"x-socket-id": socket_id} if socket_id else {})}
        return self.http.post(self.server.url + path, json=body, headers=headers, timeout=SECONDS)

    def publish(self, type: str, socket_id: str | None = None, **fields: Any) -> None:  # noqa: A002 - the event's word
        self.post("/publish", {"type": type, **fields}, socket_id).raise_for_status()


@contextmanager
def running(
    command: list[str], env: Mapping[str, str] | None = None, *, stdin: int | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a command for the length of the block; it is told to end, and killed when it does not."""
    pipes: dict[str, Any] = {"stdin": stdin, "stdout": subprocess.PIPE, "text": True, "cwd": cwd}
    with subprocess.Popen(command, env={**os.environ, **(env or {})}, **pipes) as process, ended(process):
        yield process


@contextmanager
def forked(module: str, *arguments: str, patched: bool = True, stderr: int = 2) -> Iterator[Served]:
    """Run a module that serves and prints its port, for the length of the block."""
    program = fork_server(patched=patched).start(module, *arguments, env=os.environ, stderr=stderr)
    with program as process, ended(process):
        line = process.stdout.readline().strip()
        assert line.isdigit(), f"{module} did not start: {line!r}"
        yield Served(f"http://127.0.0.1:{line}", process)


@contextmanager
def ended(process: subprocess.Popen[str] | Forked) -> Iterator[None]:
    """Tell the process to end after the block, and kill it when it does not."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def host_app(config: Mapping[str, Any], *, stderr: int = 2) -> Iterator[Served]:
    """Serve `host_app.py` with that configuration."""
    patched = config.get("PATCH", True)
    with forked("tests.support.host_app", json.dumps(dict(config)), patched=patched, stderr=stderr) as served:
        yield served
