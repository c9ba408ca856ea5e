"""The files of deploy/, and what checks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.brokers import binary
from tests.support.service import ROOT

DEPLOY = ROOT / "deploy"
SECONDS = 60


def checked(tool: str, *arguments: object, cwd: Path = ROOT) -> str:
    """Run a tool of this environment or of the machine, fail with what it says unless it is content; its output."""
    program = binary(str(Path(sys.executable).with_name(tool)), tool, f"/usr/sbin/{tool}")
    ran = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS, check=False, cwd=cwd
    )
    assert ran.returncode == 0, f"{tool} {' '.join(map(str, arguments))}\n{ran.stdout}{ran.stderr}"
    return ran.stdout + ran.stderr


def documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file."""
    with path.open(encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))
