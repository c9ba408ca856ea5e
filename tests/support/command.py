"""Programs of ours as a user runs them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack

from tests.support.fork_server import fork_server

SECONDS = 30


def environment(**environ: str) -> dict[str, str]:
    """Return this process's environment without any REPO_NOTIFY_* key, and with these."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("REPO_NOTIFY_")}
    return {**kept, **environ}


def repo_notify(*arguments: str, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `repo-notify` with that standard input and return what it did."""
    return run("repo_notify", *arguments, text=text, **environ)


def run(module: str, *arguments: str, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a module as `python -m` does, with that standard input, and return what it did."""
    with ExitStack() as stack:
        given, said, errors = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        given.write(text)
        given.seek(0)
        descriptors = {"stdin": given.fileno(), "stdout": said.fileno(), "stderr": errors.fileno()}
        environ = environment(**environ)
        with fork_server(patched=True).start(module, *arguments, env=environ, **descriptors) as process:
            code = process.wait(SECONDS)
        said.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, said.read(), errors.read())
