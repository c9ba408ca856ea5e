"""Set up a checkout without `legacy_v4`: `python without_v4.py <repository> <folder>`, where the wheel is installed.

The package is removed from the environment, and the tests, without v4's own, are copied to the folder.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

COPIED = ("config", "docs", "pyproject.toml", "README.md", "tests", "wsgi.py")


def main(repository: Path, folder: Path) -> None:
    found = importlib.util.find_spec("legacy_v4")
    if found is not None and found.origin is not None:
        installed = Path(found.origin).parent
        assert repository not in installed.parents or ".tox" in installed.parts, "the wheel is to be installed"
        shutil.rmtree(installed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("legacy_v4", "__pycache__"))
        else:
            shutil.copy(source, folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
