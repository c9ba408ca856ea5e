"""Every client that must work, over every transport, through the story; the outcomes are docs/tested-clients.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("legacy_v4")

from tests.clients.harness import Clients, JsClients, JsSocket, PythonClients
from tests.clients.install import Node
from tests.clients.matrix import (
    ALIASES,
    MODEL,
    NEW_PYTHON,
    OLD_PYTHON,
    V4_MODEL,
    WAYS,
    Story,
    document,
    join,
    publish_bson,
)
from tests.conftest import host_defaults
from tests.support.ports import free_port
from tests.support.served import Served, User, host_app

pytestmark = pytest.mark.clients

DOCUMENT = Path(__file__).parents[2] / "docs" / "tested-clients.md"
CONFIG = {"REPO_NOTIFY_LEGACY_V4_NAMES": "both", "REPO_NOTIFY_JOIN_BURST": 10_000}
CASES = [(alias, way) for alias in ALIASES for way in WAYS]
Outcomes = dict[tuple[str, str], list[str]]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """The steps that each client did on each transport."""
    return {case: [] for case in CASES}


@pytest.fixture(scope="module")
def server(sample: str) -> Iterator[Served]:
    with host_app({**host_defaults(sample), **CONFIG}) as served:
        yield served


@pytest.fixture(scope="module")
def processes(node: Node, installed_clients: Path, old_python_client: str) -> Iterator[dict[str, Clients]]:
    """A process for each language and version of Python's client."""
    with (
        JsClients(node, installed_clients) as javascript,
        PythonClients(old_python_client) as old,
        PythonClients() as new,
    ):
        yield {**dict.fromkeys(ALIASES, javascript), OLD_PYTHON: old, NEW_PYTHON: new}


@pytest.mark.parametrize(("alias", "way"), CASES)
def test_the_story(server: Served, processes: dict[str, Clients], outcomes: Outcomes, alias: str, way: str) -> None:
    Story(processes[alias], alias, WAYS[way], server, outcomes[alias, way]).live()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("alias", ALIASES)
def test_binary_values_arrive(server: Served, processes: dict[str, Clients], alias: str, transport: str) -> None:
    cookie = User(server).log_in("carol").cookie
    socket = processes[alias].connect(server.url, client=alias, transports=[transport], headers={"Cookie": cookie})
    join(socket, MODEL)
    # None of them empty, of which python-socketio 4.x makes None.
    data = {"_id": "t", "thumbnail": b"\x00\xff\n", "more": [b"\x04", b"\x80" * 300]}
    publish_bson(server, "TicketCreated", {**MODEL, "kind": "container", "data": data})
    assert socket.wait_for("containerNewTicket") == [{**MODEL, "data": data}]
    socket.disconnect()


@pytest.fixture(scope="module")
def survivors(sample: str, processes: dict[str, Clients], outcomes: Outcomes) -> dict[tuple[str, str], str]:
    """What went wrong, or "", for each client on each transport when the server was restarted under all of them."""
    config = {**host_defaults(sample), **CONFIG, "PORT": free_port()}
    stories: dict[tuple[str, str], tuple[Story, JsSocket]] = {}
    with host_app(config) as served:
        user = User(served).log_in("alice")
        for alias, way in CASES:
            story = Story(processes[alias], alias, WAYS[way], served, outcomes[alias, way])
            stories[alias, way] = story, story.connect(user, reconnection=True)
            join(stories[alias, way][1], V4_MODEL)
    for _, socket in stories.values():
        socket.wait_disconnected()
    found = {}
    with host_app(config):
        for case, (story, socket) in stories.items():
            found[case] = outcome_of(story, socket)
    return found


def outcome_of(story: Story, socket: JsSocket) -> str:
    try:
        story.come_back(socket)
    except AssertionError as error:
        return str(error) or "the join was refused"
    finally:
        socket.disconnect()
    return ""


@pytest.mark.parametrize(("alias", "way"), CASES)
def test_a_restart_is_survived(survivors: dict[tuple[str, str], str], alias: str, way: str) -> None:
    assert survivors[alias, way] == ""


def test_the_documentation_tells_this_outcome(request: pytest.FixtureRequest, outcomes: Outcomes) -> None:
    chosen = {item.name for item in request.session.items}
    if not all(f"test_the_story[{alias}-{way}]" in chosen for alias, way in CASES):
        pytest.skip("the table needs the whole matrix")
    written = document(outcomes)
    before = DOCUMENT.read_text("utf-8") if DOCUMENT.exists() else ""
    DOCUMENT.write_text(written, "utf-8")
    assert before == written, "docs/tested-clients.md was not what the run gave, and has been written anew"
