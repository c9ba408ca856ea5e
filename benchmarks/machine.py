"""What the run ran on, as the report states it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.load.drain import library
from repo_notify import __version__
from tests.clients.install import find_node

PACKAGES = ("flask", "flask-socketio", "python-socketio", "python-engineio", "gevent", "gevent-websocket", "pymongo")


def facts() -> dict[str, str]:
    """Return what the machine is and which versions were measured."""
    node = find_node()
    return {
        "Date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "Processor": f"{_processor()}, {os.cpu_count()} cores, shared by server and clients",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "repo_notify": __version__,
        "Packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
        "Node": _said(node.executable, "--version") if node else "none",
        "Reader of the clients": "in C" if library() else "in Python, as there is no gcc: it may be the bottleneck",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(none)"


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
