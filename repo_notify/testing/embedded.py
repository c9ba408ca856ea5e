"""SecantusDB, which speaks MongoDB's wire protocol, as a child process that does not outlive its parent."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pymongo import MongoClient

from repo_notify.errors import NotifyError

MEMORY = ":memory:"
# The last for which the database is built; setup.cfg leaves it away on later ones.
NEWEST_PYTHON = (3, 13)
STOP_SECONDS = 10.0
READY_MILLISECONDS = 20_000
# It reserves a log of 10 MB, and the next one, whenever it starts.
NEEDED_BYTES = 32_000_000

# Run with -c, so that the child imports the database and nothing of ours. It lives as long as its standard input: the
# kernel closes that pipe however the parent ends, by SIGKILL too.
# A last connection wakes the database's `accept`, which does not notice that its socket is closed; `stop` would wait
# 2 seconds for it.
CHILD = """
import contextlib, json, socket, sys, threading, time
from secantus.server import SecantusDBServer
server = SecantusDBServer(storage_path=sys.argv[1], cache_size="64M", enable_test_commands=False)
server.start()
print(json.dumps(server.address), flush=True)
sys.stdin.buffer.read()
address = server.address
def wake():
    time.sleep(0.05)
    with contextlib.suppress(OSError):
        socket.create_connection(address).close()
threading.Thread(target=wake).start()
server.stop()
"""


class EmbeddedMongoError(NotifyError):
    """The embedded database cannot be started; the text says why and what helps."""


def why_not_installed(python: tuple[int, int]) -> str:
    """Return why this Python has no embedded database, and what helps."""
    if python > NEWEST_PYTHON:
        newest, here = (".".join(map(str, version)) for version in (NEWEST_PYTHON, python))
        return (
            f"The embedded database cannot be installed on Python {here}: use Python 3.10 to {newest}, "
            "or set REPO_NOTIFY_MONGO_URI to a MongoDB server"
        )
    return (
        "The embedded database is not installed: pip install 'repo_notify[demo]', "
        "or set REPO_NOTIFY_MONGO_URI to a MongoDB server"
    )


class EmbeddedMongo:
    """A context manager around the database process; inside it `uri` is where pymongo finds it.

    `data_dir` is the directory that keeps its files, made when missing, or `":memory:"` for a database that is gone
    afterwards. Entering waits until the database answers; EmbeddedMongoError says why it does not.
    """

    uri: str

    def __init__(self, data_dir: Path | str) -> None:
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedMongo:
        if importlib.util.find_spec("secantus") is None:
            raise EmbeddedMongoError(why_not_installed(sys.version_info[:2]))
        if self._data_dir != MEMORY:
            Path(self._data_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as complaints:
            # Its own session, so that Ctrl-C in a terminal reaches the parent alone, which then stops it in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, a constant program
                [sys.executable, "-c", CHILD, str(self._data_dir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,
            )
            try:
                self.uri = self._await_ready(self._process, complaints)
            except BaseException:
                self._stop()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _cure(self) -> str:
        """Return what helps where the disk is full: the database itself reports a panic."""
        if self._data_dir == MEMORY or shutil.disk_usage(self._data_dir).free >= NEEDED_BYTES:
            return ""
        return (
            f". Its disk is full: free at least {NEEDED_BYTES // 1_000_000} MB there and start again; nothing that was "
            f"stored is lost. Or delete {self._data_dir}, which holds the demo's data alone: it is made anew"
        )

    def _await_ready(self, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait(STOP_SECONDS)
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else "it said nothing"
            raise EmbeddedMongoError(
                f"The embedded database did not start in {self._data_dir}: {reason}{self._cure()}"
            )
        host, port = json.loads(line)
        uri = f"mongodb://{host}:{port}/?directConnection=true"
        client: MongoClient[dict[str, Any]]
        with MongoClient(uri, serverSelectionTimeoutMS=READY_MILLISECONDS) as client:
            client.admin.command("ping")
        return uri
