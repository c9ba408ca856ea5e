"""The lists in docs/architecture.md of the functions that a step passes."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"
TITLES = {"join": "A join passes:", "publish": "A published event passes:"}
END = "<!-- end -->"


def listed(document: str, step: str) -> set[str]:
    """Return the functions that the document lists."""
    return set(re.findall(r"`([^`]+)`", _parts(document, step)[1]))


def written(document: str, step: str, functions: list[str]) -> str:
    """Return the document with these functions."""
    before, _, after = _parts(document, step)
    lines = textwrap.fill(", ".join(f"`{function}`" for function in functions), 120, break_on_hyphens=False)
    return f"{before}\n\n{lines}\n\n{after}"


def _parts(document: str, step: str) -> tuple[str, str, str]:
    before, title, rest = document.partition(TITLES[step])
    functions, end, after = rest.partition(END)
    return before + title, functions, end + after
