"""The pages of docs/ as a reader has them: their headings, links and code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL
)
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]*`")


@dataclass(frozen=True)
class Block:
    """One fenced block: the heading that it stands under, its language and its text."""

    page: str
    heading: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page of docs/, in order; directives of the site are none."""
    text = (DOCS / page).read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        if match["language"].startswith("{"):
            continue
        headings = _HEADING.findall(_without_blocks(text[: match.start()]))
        indent = match["indent"]
        lines = [line.removeprefix(indent) for line in match["text"].splitlines(keepends=True)]
        found.append(Block(page, headings[-1] if headings else "", match["language"], "".join(lines)))
    return found


def block(page: str, heading: str, language: str = "") -> Block:
    """Return the one block under a heading, of that language if one is named."""
    (found,) = (each for each in blocks(page) if each.heading == heading and language in ("", each.language))
    return found


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = _HEADING.findall(_without_blocks(path.read_text("utf-8")))
    return {_slug(heading) for heading in headings}


def links(path: Path) -> list[str]:
    """Return where a page's links and pictures point."""
    text = _CODE.sub("``", _without_blocks(path.read_text("utf-8")))
    return [link or picture for link, picture in _LINK.findall(text)]


def _without_blocks(text: str) -> str:
    return _FENCE.sub("", text)


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
