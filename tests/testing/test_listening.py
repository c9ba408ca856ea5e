"""Each of our ways of serving logs where it listens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.served import SECONDS, ended

PROGRAM = """
from gevent import monkey; monkey.patch_all()
import logging
from flask import Flask
from repo_notify import RepoNotify
from repo_notify.serving import serve
logging.basicConfig(format="%(levelname)s %(message)s")
logging.getLogger("repo_notify").setLevel(logging.INFO)
app = Flask(__name__)
app.config.update(SECRET_KEY="x", REPO_NOTIFY_MONGO_URI="mongodb://127.0.0.1:1")
notify = RepoNotify(app)
"""


@pytest.mark.parametrize(
    ("run", "address"),
    [
        ("notify.socketio.run(app, port=0)", r"http://127\.0\.0\.1:\d+"),
        ("notify.socketio.run(app, host='::1', port=0)", r"http://\[::1\]:\d+"),
        ("serve(app, host='127.0.0.1', port=0)", r"http://127\.0\.0\.1:\d+"),
    ],
)
def test_the_address_is_logged(tmp_path: Path, run: str, address: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + run)
    with subprocess.Popen([sys.executable, str(program)], stderr=subprocess.PIPE, text=True) as process, ended(process):
        assert process.stderr is not None
        # python-engineio has a line of its own before.
        line = next(line for line in process.stderr if "listening" in line)
        found = re.fullmatch(f"INFO listening on ({address})\n", line)
        assert found, line
        assert requests.get(f"{found[1]}/notify/healthz", timeout=SECONDS).status_code == 200
