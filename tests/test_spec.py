"""Every section of docs/spec.md that is cited is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUFFIXES = {".py", ".md", ".js", ".toml", ".cfg", ".ini"}
_CITATION = re.compile(r"\bspec\s+sections?\s+(\d+(?:(?:\s*,\s*|\s+and\s+|\s+to\s+)\d+)*)")
_FORMER = re.compile(r"\bPROTO" r"COL\b")


def files() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the files are listed by git, in a clone")
    return [ROOT / name for name in listed.splitlines() if Path(name).suffix in SUFFIXES and (ROOT / name).is_file()]


def sections() -> set[int]:
    headings = re.findall(r"^## (\d+)\. ", (ROOT / "docs/spec.md").read_text("utf-8"), re.MULTILINE)
    return set(map(int, headings))


def test_each_citation_resolves() -> None:
    known, cited = sections(), set[int]()
    for path in files():
        for numbers in _CITATION.findall(path.read_text("utf-8")):
            cited |= (found := set(map(int, re.findall(r"\d+", numbers))))
            assert found <= known, f"{path.relative_to(ROOT)} cites section {found - known} of the specification"
    assert len(cited) >= 7, "the code cites most sections"


def test_nothing_cites_a_document_that_is_not_here() -> None:
    assert [str(path) for path in files() if path != Path(__file__) and _FORMER.search(path.read_text("utf-8"))] == []
