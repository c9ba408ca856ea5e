"""docs/quickstart.md, done step by step."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.docs.conftest import Folder
from tests.docs.pages import ROOT, block, blocks
from tests.support.lines import printing
from tests.support.ports import free_port

PAGE = "quickstart.md"
INSTALL_SECONDS = 300


def test_from_an_app_to_a_change(folder: Callable[..., Folder]) -> None:
    here = folder()
    assert here.save(PAGE) == ["app.py", "listen.py"]
    here.await_service(here.shell(PAGE, "Put it into an app"))
    listener = here.shell(PAGE, "Listen")
    listener.line("success")
    here.shell(PAGE, "Make a change").line('"tag":"rev7"')
    listener.line("new revision rev7")


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_SECONDS + 60)
def test_see_it_on_a_fresh_machine(tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("the files are listed by git, in a clone")
    for name in listed.stdout.splitlines():
        if not name.startswith(("tests/", "benchmarks/", "docs/")) and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    port = free_port()
    commands = block(PAGE, "See it", "sh").text.rstrip() + f" --port {port}"
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    with printing(["bash", "-euc", commands], tmp_path, env) as program:
        program.line(f"http://127.0.0.1:{port}", seconds=INSTALL_SECONDS)
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=30).status_code == 200


def test_every_block_of_the_page_is_run_here() -> None:
    run = {"See it", "Put it into an app", "Listen", "Make a change"}
    assert {(each.heading, each.language) for each in blocks(PAGE)} <= {(h, k) for h in run for k in ("sh", "python")}
