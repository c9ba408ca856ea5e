"""The file of a 3D Repo backend's configuration: JSON, or a JavaScript module that Node evaluates."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from repo_notify.errors import SettingsError

from .config import BackendConfig, read_config

SECONDS = 20
# The module may print, so that what is meant stands behind a word that it cannot know.
_PROGRAM = """
const [path, word] = process.argv.slice(1);
import(require("url").pathToFileURL(path)).then((found) => {
  process.stdout.write("\\n" + word + JSON.stringify(found.default ?? found), () => process.exit(0));
});
"""
# Node repeats the line of the source, which may hold a secret: the error's own line alone is shown.
_ERROR = re.compile(r"^(?:\w*Error\b.*)$", re.MULTILINE)


def load(path: Path) -> BackendConfig:
    """Return what the file says; raises `SettingsError` with what is wrong with it, and the cure."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise SettingsError([f"{path} cannot be read ({type(error).__name__})"]) from error
    try:
        return read_config(_document(path, text))
    except SettingsError as error:
        raise SettingsError([f"{path}: {problem}" for problem in error.problems]) from error


def _document(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if path.suffix == ".json":
            raise SettingsError([f"it should hold JSON: {error}"]) from None
    return _evaluated(path)


def _evaluated(path: Path) -> Any:
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        raise SettingsError(
            [
                "it is JavaScript, which Node evaluates, and Node is not installed: install it, or print the "
                "file as JSON where the backend runs and pass that: "
                "node -p 'JSON.stringify(require(\"./config.js\"))' > config.json"
            ]
        )
    word = secrets.token_hex(16)
    command = [node, "-e", _PROGRAM, "--", str(path.resolve()), word]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)  # noqa: S603 - the operator's file
    except subprocess.TimeoutExpired:
        raise SettingsError([f"Node did not evaluate it within {SECONDS} s"]) from None
    _, found, document = done.stdout.decode(errors="replace").rpartition(word)
    if not found:
        why = _ERROR.search(done.stderr.decode(errors="replace"))
        raise SettingsError([f"Node cannot evaluate it: {why[0][:200] if why else f'exit code {done.returncode}'}"])
    try:
        return json.loads(document)
    # JSON has no word for what a module without exports is.
    except ValueError:
        raise SettingsError(["it should export an object, as `module.exports = {...}` does"]) from None
