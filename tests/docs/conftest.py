"""A folder with a page's programs in it, as a reader would have saved them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.conftest import installed_clients, node  # noqa: F401 - fixtures, for the tests here
from tests.docs.pages import ROOT, block, blocks
from tests.support.lines import Program, printing
from tests.support.ports import free_port
from tests.support.service import answers
from tests.support.until import until

# A program of its own imports everything anew, on a machine that is busy with other tests.
START_SECONDS = 60.0
SHOWN_PORT, SHOWN_MONGO, SHOWN_REDIS = "3000", "mongodb://127.0.0.1:27017", "redis://127.0.0.1:6379/0"
_NAMED = re.compile(r"(?:#|//) (?P<name>[\w.]+)\n")
# Serves the app of a saved program as the reader's server would, with what a test adds to it.
_LAUNCH = """
from gevent import monkey; monkey.patch_all()
import {module} as page
{more}
from repo_notify.serving import serve
serve(page.app, host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True))
"""


class Folder:
    """The programs of pages, saved under the names in their first lines; what they show as addresses is the test's."""

    def __init__(self, path: Path, stack: ExitStack, replaced: dict[str, str]) -> None:
        self.path, self.port = path, free_port()
        self._stack = stack
        port = {f"127.0.0.1:{SHOWN_PORT}": f"127.0.0.1:{self.port}", f"port={SHOWN_PORT}": f"port={self.port}"}
        self._replaced = {**port, **replaced}
        self._commands()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def here(self, text: str) -> str:
        """Return a block's text with this folder's addresses in it."""
        for shown, used in self._replaced.items():
            text = text.replace(shown, used)
        return text

    def save(self, page: str) -> list[str]:
        """Save the named blocks of a page; return their names."""
        found = [(match["name"], each.text) for each in blocks(page) if (match := _NAMED.match(each.text))]
        for name, text in found:
            (self.path / name).write_text(self.here(text), "utf-8")
        return [name for name, _ in found]

    def run(self, command: str, **environ: str) -> Program:
        """Run a shell command in the folder until the test ends."""
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PATH": self._path, **environ}
        return self._stack.enter_context(printing(["bash", "-euc", command], self.path, env))

    def shell(self, page: str, heading: str, **environ: str) -> Program:
        """Run the shell block under a heading."""
        return self.run(self.here(block(page, heading, "sh").text), **environ)

    def serve(self, module: str, more: str = "") -> str:
        """Serve the app of a saved program, with further lines; return its address."""
        (self.path / "launch.py").write_text(_LAUNCH.format(module=module, more=more), "utf-8")
        return self.run("exec python launch.py").line("http://")

    def await_service(self, program: Program) -> None:
        """Wait until what the program serves answers."""
        until(lambda: answers(self.url) or program.process.poll() is not None, seconds=START_SECONDS)
        assert program.process.poll() is None, "it did not start"

    def _commands(self) -> None:
        """Put a `.venv` there whose Python is the tests', with their packages: there is nothing left to install."""
        self._path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        commands = self.path / ".venv" / "bin"
        commands.mkdir(parents=True)
        for name, does in {"python": f'exec "{sys.executable}" "$@"', "pip": 'echo "$@"'}.items():
            (commands / name).write_text(f"#!/bin/sh\n{does}\n", "utf-8")
            (commands / name).chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, mongo_uri: str) -> Iterator[Callable[..., Folder]]:
    """Make a folder for programs; keyword arguments are further texts that are replaced."""
    with ExitStack() as stack:

        def make(replaced: dict[str, str] | None = None) -> Folder:
            return Folder(tmp_path, stack, {SHOWN_MONGO: mongo_uri, **(replaced or {})})

        yield make
