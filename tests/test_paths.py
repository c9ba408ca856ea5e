"""How many of our functions a join and a published event pass, and that docs/architecture.md lists them."""

from __future__ import annotations

import json
import sys

import pytest

from tests.support import command
from tests.support.paths_document import DOCUMENT, listed

MOST = {"join": 62, "publish": 35}


@pytest.fixture(scope="module")
def passed(sample: str) -> dict[str, list[str]]:
    done = command.run("tests.support.paths", sample)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("step", MOST)
def test_a_step_passes_few_functions(passed: dict[str, list[str]], step: str) -> None:
    assert len(passed[step]) <= MOST[step], passed[step]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="code objects have no qualified names before Python 3.11")
@pytest.mark.parametrize("step", MOST)
def test_the_document_lists_them(passed: dict[str, list[str]], step: str) -> None:
    """`python -m tests.support.paths <MongoDB> --write` writes the lists anew."""
    assert listed(DOCUMENT.read_text(), step) == set(passed[step])
