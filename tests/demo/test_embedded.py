"""The embedded database: when it answers, what it keeps, when it ends, what it says where it cannot start."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymongo import uri_parser
from pymongo.errors import PyMongoError

from repo_notify.access.store import connect
from repo_notify.testing.embedded import EmbeddedMongo, EmbeddedMongoError
from tests.demo.support import SECONDS
from tests.support.unmeasured import unmeasured_children

pytestmark = pytest.mark.slow

PARENT = """
import sys
from repo_notify.testing.embedded import EmbeddedMongo
with EmbeddedMongo(":memory:") as embedded:
    print(embedded.uri, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _databases_are_not_measured() -> Iterator[None]:
    """Nor need their parents be: what is ours runs in the tests' process too."""
    with unmeasured_children():
        yield


def refuses(uri: str) -> bool:
    """Whether nothing listens at `uri`."""
    host, port = uri_parser.parse_uri(uri)["nodelist"][0]
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) != 0


def test_what_was_stored_is_there_at_the_next_start(tmp_path: Path) -> None:
    embedded = EmbeddedMongo(tmp_path / "made" / "here")
    for expected in (0, 1):
        with embedded, connect(embedded.uri, timeout=SECONDS) as client:
            assert client["acme"]["settings"].count_documents({}) == expected
            client["acme"]["settings"].insert_one({"_id": expected, "name": "Structure"})
        assert refuses(embedded.uri)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent_however_that_ends(end: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        uri = parent.stdout.readline().strip()
        (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        ended = os.pidfd_open(int(child))
        try:
            parent.send_signal(end)
            parent.wait(SECONDS)
            assert select.select([ended], [], [], SECONDS)[0]
        finally:
            os.close(ended)
    assert refuses(uri)


def test_one_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repo_notify.testing.embedded.STOP_SECONDS", 0.0)
    with EmbeddedMongo(tmp_path) as embedded:
        pass
    assert refuses(embedded.uri)


def test_two_on_the_same_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    with (
        EmbeddedMongo(tmp_path),
        pytest.raises(EmbeddedMongoError, match=r"The embedded database did not start in .+: .+"),
        EmbeddedMongo(tmp_path),
    ):
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A disk of 12 MB at `tmp_path / "disk"`; give it another size by calling."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size: str, *more: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *more]), "none", str(disk)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    if shutil.which("mount") is None or mount("12m") != 0:
        pytest.skip("only root may mount a small disk")
    try:
        yield lambda size: assert_zero(mount(size, "remount"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def assert_zero(code: int) -> None:
    assert code == 0


def test_a_full_disk_is_told_and_costs_nothing_once_there_is_space(
    tmp_path: Path, small_disk: Callable[[str], None]
) -> None:
    embedded = EmbeddedMongo(tmp_path / "disk" / "database")
    stored = 0
    with embedded, connect(embedded.uri, timeout=SECONDS) as client:
        files = client["acme"]["files"]
        with contextlib.suppress(PyMongoError):
            for stored in range(200):
                files.insert_one({"_id": stored, "bytes": os.urandom(200_000)})
        assert stored < 199
    told = rf"Its disk is full: free at least 32 MB .+ Or delete {tmp_path}/disk/database, which holds the demo's data"
    with pytest.raises(EmbeddedMongoError, match=told), embedded:
        pass
    small_disk("96m")
    with embedded, connect(embedded.uri, timeout=SECONDS) as client:
        assert client["acme"]["files"].count_documents({}) >= stored > 0
        client["acme"]["files"].insert_one({"_id": "more"})


def test_a_missing_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['secantus'] = None\n"
        "from repo_notify.testing.embedded import EmbeddedMongo\n"
        "EmbeddedMongo(':memory:').__enter__()"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "pip install 'repo_notify[demo]'" in found.stderr
    assert "REPO_NOTIFY_MONGO_URI" in found.stderr
