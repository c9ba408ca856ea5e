"""What tox needs to know of the machine before it looks for interpreters: a plugin that tox loads by itself.

pyenv keeps its Pythons off the PATH and puts in shims that fail for versions that are not selected; and uv, which
installs the environments, reads no setting of pip's.
"""

from __future__ import annotations

import os
from pathlib import Path

PIP_TO_UV = {
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
}


def find_pyenv_interpreters() -> None:
    """Append the directories of pyenv's interpreters to the PATH; without pyenv do nothing."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(versions.glob("3.*/bin"))
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, found)])


def hand_pip_settings_to_uv() -> None:
    """Let uv use the package index, local packages and certificates that pip is told to use."""
    for pip_name, uv_name in PIP_TO_UV.items():
        if value := os.environ.get(pip_name):
            os.environ.setdefault(uv_name, value)


find_pyenv_interpreters()
hand_pip_settings_to_uv()
