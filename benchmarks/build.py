"""What the run needs besides Python: C programs and npm packages, made once, in a cache outside the repository."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.clients.install import INSTALL_SECONDS, NPM_INSTALL, Node, cache_root


class BuildError(Exception):
    """Something could not be built; the text is the tool's own."""


def compiled(source: Path, *, shared: bool = False) -> Path | None:
    """Return the program (or shared library) compiled from a C file with gcc; None where there is no gcc.

    Raises `BuildError` when gcc refuses the file.
    """
    gcc = shutil.which("gcc")
    if gcc is None:
        return None
    options = ["-O2", "-Wall", "-Wextra", "-Werror", *(["-shared", "-fPIC"] if shared else [])]

    def build(folder: Path) -> None:
        _run([gcc, *options, "-o", str(folder / source.stem), str(source)], folder)

    return _cached(source, build) / source.stem


def node_modules(node: Node, manifest: Path, *beside: Path, script: str | None = None) -> Path:
    """Return the folder into which the packages of a package.json are installed; raises `BuildError`.

    A `script` of the package.json is run afterwards, with the files `beside` in its folder.
    """
    npm = str(node.bin / "npm")

    def build(folder: Path) -> None:
        for source in (manifest, *beside):
            (folder / source.name).write_bytes(source.read_bytes())
        _run([npm, *NPM_INSTALL], folder, node.environment())
        if script is not None:
            _run([npm, "run", script], folder, node.environment())

    return _cached(manifest, build, *beside, version=_version(node) if script is not None else b"") / "node_modules"


def _version(node: Node) -> bytes:
    """Return which Node it is: what is compiled for one does not run in another."""
    return subprocess.run([node.executable, "--version"], capture_output=True, check=True, timeout=10).stdout


def _cached(source: Path, build: Callable[[Path], None], *beside: Path, version: bytes = b"") -> Path:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (source, *beside)) + version).hexdigest()[:16]
    target = cache_root() / f"benchmarks-{source.stem}-{digest}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=target.parent) as parent:
        folder = Path(parent) / "built"
        folder.mkdir()
        build(folder)
        try:
            folder.rename(target)
        except OSError:
            # Another run was first; anything else that keeps the folder away is worth telling.
            if not target.is_dir():
                raise
    return target


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    if done.returncode:
        raise BuildError(f"{Path(command[0]).name}: {done.stderr.strip()}")
