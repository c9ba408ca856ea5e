"""docs/access.md: what it says is read is what is read, and its programs run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from uuid import UUID

import pytest
import requests
from bson import Binary
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from repo_notify.access.permissions import Permissions
from repo_notify.access.store import Store
from repo_notify.demo.seed import STRUCTURE, TOWER, WHOLE
from repo_notify.metrics import Metrics
from tests.docs.conftest import SHOWN_MONGO, Folder
from tests.docs.pages import DOCS, blocks
from tests.support.chat import ChatClient
from tests.support.ports import free_port
from tests.support.served import SECONDS
from tests.support.teamspaces import Teamspace

PAGE = "access.md"
Read = tuple[str, str, frozenset[str]]


class Reads(CommandListener):
    """What is asked of the database: the collection, the field that is looked for, the fields that are read."""

    def __init__(self, teamspace: str) -> None:
        self.teamspace = teamspace
        self.seen: set[Read] = set()
        self.others: set[str] = set()

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name != "find":
            self.others.add(event.command_name)
            return
        database = event.database_name.replace(self.teamspace, "<teamspace>")
        (field,) = event.command["filter"]
        self.seen.add((f"{database}.{event.command['find']}", field, frozenset(event.command["projection"])))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to note."""


def listed() -> set[Read]:
    """What the page says that is read."""
    _, _, rest = (DOCS / PAGE).read_text("utf-8").partition("## What is read in MongoDB\n")
    table = rest.partition("\n## ")[0]
    rows = re.findall(r"^\| `(\S+)` \| `(\w+)` \| (.+) \|$", table, re.MULTILINE)
    return {(collection, by, frozenset(re.findall(r"`([\w.]+)`", fields))) for collection, by, fields in rows}


def test_it_reads_what_the_page_lists(mongo_uri: str, teamspaces: Callable[..., Teamspace]) -> None:
    teamspace = teamspaces()
    model = teamspace.model()
    project = teamspace.project([model])
    reads = Reads(teamspace.name)
    with MongoClient[dict[str, object]](mongo_uri, event_listeners=[reads]) as client:
        store = Store(client, users_collection="system.users")
        permissions = Permissions(store, Metrics(), ttl=0, size=10, timeout=SECONDS)
        assert not permissions.may_read_model("uma", teamspace.name, project, model)
        assert not permissions.may_watch_project("uma", teamspace.name, project)
        assert not permissions.administers("uma", teamspace.name)
    assert reads.seen == listed()
    assert reads.others <= {"endSessions"}


def test_the_example_documents_open_what_they_say(
    mongo: MongoClient[dict[str, object]], teamspaces: Callable[..., Teamspace]
) -> None:
    (shown,) = (each for each in blocks(PAGE) if each.language == "json")
    documents = json.loads(shown.text)
    project, model = documents["projects"]["_id"], documents["settings"]["_id"]
    teamspace = teamspaces()
    documents["projects"]["_id"] = Binary(UUID(project).bytes, 4)
    documents["teamspace"]["_id"] = teamspace.name
    for collection, document in documents.items():
        teamspace.put(collection, **document)
    permissions = Permissions(Store(mongo, users_collection="users"), Metrics(), ttl=0, size=10, timeout=SECONDS)
    may_read = {user: permissions.may_read_model(user, teamspace.name, project, model) for user in ("carol", "mallory")}
    assert may_read == {"carol": True, "mallory": False}
    watch = {user: permissions.may_watch_project(user, teamspace.name, project) for user in ("bob", "alice", "carol")}
    assert watch == {"bob": True, "alice": True, "carol": False}
    assert [permissions.administers(user, teamspace.name) for user in ("alice", "bob")] == [True, False]


def test_rights_of_ones_own(folder: Callable[..., Folder], chat: Callable[..., ChatClient]) -> None:
    pytest.importorskip("legacy_v4")
    here = folder({SHOWN_MONGO: f"mongodb://127.0.0.1:{free_port()}"})
    assert here.save(PAGE) == ["checker.py", "rights.py"]
    here.save("mount.md")
    url = here.serve("rights")

    def joins(username: str, room: dict[str, str]) -> bool:
        http = requests.Session()
        http.post(url + "/login", json={"username": username}, timeout=SECONDS).raise_for_status()
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies)
        return "event" in chat(url, cookie=cookie).ask("join", room)

    model = {"teamspace": "acme", "project": "a608516e-0fef-4185-bca8-bf03a256ad3d", "model": "structure"}
    assert joins("carol", model)
    assert not joins("carol", {**model, "model": "other"})
    assert not joins("carol", {"account": "acme"})
    assert joins("alice", {"account": "acme"})
    assert not joins("mallory", model)


def test_a_checker_has_its_say(
    sample: str, folder: Callable[..., Folder], chat: Callable[..., ChatClient]
) -> None:
    here = folder({SHOWN_MONGO: sample, "LOCKED = set()": 'LOCKED = {"dave"}'})
    here.save(PAGE)
    here.save("mount.md")
    url = here.serve("checker")
    joined = {}
    for username, model in (("carol", STRUCTURE), ("dave", WHOLE)):
        http = requests.Session()
        http.post(url + "/login", json={"username": username}, timeout=SECONDS).raise_for_status()
        cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in http.cookies)
        room = {"teamspace": "acme", "project": TOWER, "model": model}
        joined[username] = "event" in chat(url, cookie=cookie).ask("join", room)
    assert joined == {"carol": True, "dave": False}


def test_every_block_of_the_page_is_run_here() -> None:
    # The role is for a MongoDB with accounts, which the tests have not.
    assert sorted(each.language for each in blocks(PAGE)) == ["json", "python", "python", "text"]
