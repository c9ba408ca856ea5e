"""docs/publishing.md: each of its programs and commands, and what a member then hears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.install import Node
from tests.conftest import host_defaults
from tests.docs.conftest import SHOWN_PORT, SHOWN_REDIS, Folder
from tests.docs.pages import blocks
from tests.support.brokers import redis
from tests.support.chat import ChatClient
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.teamspaces import Teamspace

pytest.importorskip("legacy_v4")

PAGE = "publishing.md"
KEY = "a key of the tests'"
PROGRAMS = ["views.py", "publish.mjs", "kept_open.mjs", "worker.py"]
COMMANDS = ["By HTTP, from any language", "From a shell"]
NOTIFICATION = {"_id": "n1"}


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis(tmp_path_factory.mktemp("redis"), free_port()) as url:
        yield url


@pytest.fixture(scope="module")
def server(sample: str, queue: str) -> Iterator[Served]:
    keys = {"REPO_NOTIFY_API_KEY": KEY, "REPO_NOTIFY_MESSAGE_QUEUE": queue}
    with host_app({**host_defaults(sample), **keys}) as served:
        yield served


@pytest.fixture
def here(folder: Callable[..., Folder], server: Served, queue: str) -> Folder:
    made = folder({f"127.0.0.1:{SHOWN_PORT}": f"127.0.0.1:{server.port}", SHOWN_REDIS: queue})
    assert made.save(PAGE) == PROGRAMS
    return made


@pytest.fixture
def carol(server: Served) -> Iterator[ChatClient]:
    with ExitStack() as stack:
        client = ChatClient(server.url, cookie=User(server).log_in("carol").cookie)
        stack.callback(client.close)
        client.join({"notifications": True})
        yield client


def test_a_view(here: Folder, teamspaces: Callable[..., Teamspace], chat: Callable[..., ChatClient]) -> None:
    assert here.save("mount.md")[0] == "api.py"
    url = here.serve("views")
    teamspace = teamspaces()
    model = teamspace.model({"uma": "viewer"})
    teamspace.project([model])
    http = requests.Session()
    http.post(url + "/login", json={"username": "uma"}, timeout=SECONDS).raise_for_status()
    cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies)
    emitter, other = (chat(url, cookie=cookie) for _ in range(2))
    for client in (emitter, other):
        client.join({"account": teamspace.name, "model": model})
    address = f"{url}/{teamspace.name}/{model}/issues/i1/comments"
    headers = {"x-socket-id": emitter.id}
    http.post(address, json={"comment": "Sealed"}, headers=headers, timeout=SECONDS).raise_for_status()
    assert other.hear_event(f"{teamspace.name}::{model}::i1::newComment")["comment"] == "Sealed"
    assert emitter.heard_so_far() == []


def test_by_http(here: Folder, server: Served) -> None:
    here.shell(PAGE, COMMANDS[0], KEY=KEY).line('{"accepted":1}')


@pytest.mark.clients
def test_from_node(here: Folder, carol: ChatClient, node: Node) -> None:
    program = here.run(f"exec {node.executable} publish.mjs", KEY=KEY)
    assert carol.hear_event("carol::notificationUpserted") == NOTIFICATION
    assert program.process.wait(SECONDS) == 0


@pytest.mark.clients
def test_from_node_over_a_connection_that_is_kept_open(
    here: Folder, carol: ChatClient, node: Node, installed_clients: Path
) -> None:
    modules = here.path / "node_modules"
    modules.mkdir()
    (modules / "socket.io-client").symlink_to(installed_clients / "node_modules" / "sio-4")
    program = here.run(f"exec {node.executable} kept_open.mjs", KEY=KEY)
    assert carol.hear_event("carol::notificationUpserted") == NOTIFICATION
    assert program.process.wait(SECONDS) == 0


def test_from_a_shell(here: Folder, carol: ChatClient) -> None:
    here.shell(PAGE, COMMANDS[1], KEY=KEY).line("published 1 event")
    assert carol.hear_event("carol::notificationUpserted") == NOTIFICATION


def test_from_a_worker(here: Folder, carol: ChatClient) -> None:
    program = here.run("exec python worker.py")
    assert carol.hear_event("carol::notificationUpserted") == NOTIFICATION
    assert program.process.wait(SECONDS) == 0


@pytest.mark.parametrize(
    ("key", "body", "status", "says"),
    [
        (KEY, {"type": "NotificationDeleted", "username": "carol", "data": {}}, 202, '"accepted"'),
        (KEY, {"type": "IssuesCreated", "teamspace": "a", "model": "", "issues": []}, 400, "a non-empty string"),
        ("wrong", {}, 401, "REPO_NOTIFY_API_KEY"),
        (KEY, [{}] * 1001, 413, "at most 1000 events"),
    ],
)
def test_the_answers(server: Served, key: str, body: Any, status: int, says: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    answer = requests.post(server.url + "/notify/events", json=body, headers=headers, timeout=SECONDS)
    assert answer.status_code == status
    assert says in answer.text


def test_every_block_of_the_page_is_run_here() -> None:
    shells = [each.heading for each in blocks(PAGE) if each.language == "sh"]
    assert shells == COMMANDS
    assert len(blocks(PAGE)) == len(PROGRAMS) + len(COMMANDS)
