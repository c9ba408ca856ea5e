"""Findings, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Level = Literal["ok", "note", "WRONG"]
_WIDTH = len("WRONG")


class Finding(NamedTuple):
    """One thing that was looked at: how it is, and one sentence, with the cure where there is something to cure."""

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level:<{_WIDTH}} {' '.join(self.text.split())}"


def ok(text: str) -> Finding:
    """Return that something is as it should be."""
    return Finding("ok", text)


def note(text: str) -> Finding:
    """Return something that is worth knowing, and keeps nothing from working."""
    return Finding("note", text)


def wrong(text: str) -> Finding:
    """Return something that keeps the service from working as it should."""
    return Finding("WRONG", text)


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Return whether nothing is wrong."""
    return all(finding.level != "WRONG" for finding in findings)
