"""docs/troubleshooting.md: each message that it quotes is one of the code's, each setting and metric exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from repo_notify.settings import SETTINGS
from tests.support.service import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
SOURCES = sorted((ROOT / "repo_notify").rglob("*.py"))
DIFFERS = "…"
# What is put in later: by logging, by str.format.
_PLACES = re.compile(r"%[-.\d]*[sdfr]|\{\w*\}")
_SETTING = re.compile(r"REPO_NOTIFY_[A-Z0-9_]+")
ENVIRONMENT = {"REPO_NOTIFY_ENV"}


def literals(path: Path) -> Iterator[str]:
    """Yield the string literals of a module, with `…` for what is put in."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else DIFFERS for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield _PLACES.sub(DIFFERS, node.value)


def quoted() -> list[str]:
    """Return the messages: what stands first, in backticks, in the rows below `By message`."""
    rows = PAGE.partition("\n## By message\n")[2].splitlines()
    return [found[1] for row in rows if (found := re.match(r"\| `(.+?)` \|", row))]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    # Backticks within a message cannot be quoted in backticks: what is between them is left out.
    return [re.sub(r"`[^`]*`", DIFFERS, text) for path in SOURCES for text in literals(path)]


def test_there_are_messages() -> None:
    assert len(quoted()) > 40
    assert len(quoted()) == len(set(quoted()))


@pytest.mark.parametrize("message", quoted())
def test_a_message_is_one_of_the_codes(message: str, texts: list[str]) -> None:
    assert any(message in text for text in texts), message


def test_settings_exist() -> None:
    known = {setting.name for setting in SETTINGS} | ENVIRONMENT
    assert set(_SETTING.findall(PAGE)) <= known


def test_metrics_exist() -> None:
    source = "\n".join(path.read_text("utf-8") for path in SOURCES)
    for name in set(re.findall(r"repo_notify_[a-z_]+[a-z]", PAGE)):
        assert re.search(re.escape(name.removeprefix("repo_notify_").removesuffix("_total")), source), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
