"""A database of its own that is no replica set and wants a password, and users of it with few rights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.served import SECONDS

PASSWORD = "hunter2"
# User by name: the roles. `root` may do everything, the others read what they name.
ROLES = {
    "root": [{"role": "root", "db": "admin"}],
    "reader": [{"role": "readAnyDatabase", "db": "admin"}],
    "no_accounts": [{"role": "read", "db": "acme"}],
    "no_teamspaces": [{"role": "read", "db": "admin"}],
}
# The database takes its first users only while it asks nobody for a password.
CHILD = """
import json, sys
from pymongo import MongoClient
from secantus.server import SecantusDBServer
folder, roles, password = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
options = dict(storage_path=folder, cache_size="64M", replica_set_name=None)
server = SecantusDBServer(**options)
server.start()
with MongoClient(*server.address, directConnection=True) as client:
    for name, found in roles.items():
        client.admin.command("createUser", name, pwd=password, roles=found)
    client.admin.users.insert_one({"user": "acme", "customData": {}})
server.stop()
server = SecantusDBServer(**options, require_auth=True)
server.start()
print(json.dumps(server.address), flush=True)
sys.stdin.buffer.read()
"""


@contextmanager
def guarded(folder: Path) -> Iterator[str]:
    """Run the database for the length of the block; its `host:port`."""
    command = [sys.executable, "-c", CHILD, str(folder), json.dumps(ROLES), PASSWORD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            host, port = json.loads(process.stdout.readline())
            yield f"{host}:{port}"
        finally:
            process.terminate()
            process.wait(SECONDS)


def uri(address: str, username: str, password: str = PASSWORD) -> str:
    return f"mongodb://{username}:{password}@{address}/?directConnection=true"
