"""`repo-notify` as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys

SECONDS = 30


def environment(**environ: str) -> dict[str, str]:
    """Return this process's environment without any REPO_NOTIFY_* key, and with these."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("REPO_NOTIFY_")}
    return {**kept, **environ}


def repo_notify(*arguments: str, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `repo-notify` with that standard input and return what it did."""
    return subprocess.run(
        [sys.executable, "-m", "repo_notify", *arguments],
        input=text,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
