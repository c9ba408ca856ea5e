"""Look-ups of access lists: few, shared, bounded in number and age, and none for what cannot be."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import pytest
from bson import Binary
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from repo_notify.access.permissions import Permissions
from repo_notify.access.store import Store, connect
from repo_notify.errors import PermissionsUnavailable
from repo_notify.metrics import Metrics
from tests.support.mongo_proxy import Failure, MongoProxy
from tests.support.ports import free_port
from tests.support.served import SECONDS
from tests.support.unmeasured import unmeasured
from tests.support.until import until

TOWER, STRUCTURE = str(uuid4()), str(uuid4())


class Queries(CommandListener):
    """Counts the driver's queries; while `gate` is closed they wait before they are sent."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name != "find":
            return
        self.seen[str(event.command["find"])] += 1
        self.arrived.set()
        self.gate.wait(SECONDS)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to count."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to count."""


@pytest.fixture
def teamspace(mongo: MongoClient[dict[str, Any]]) -> Iterator[str]:
    name = f"cache{uuid4().hex[:12]}"
    settings = {"_id": STRUCTURE, "permissions": [{"user": f"user{n}", "permission": "viewer"} for n in range(50)]}
    mongo[name]["settings"].insert_one(settings)
    admins = [{"user": "pat", "permissions": ["admin_project"]}]
    project = {"_id": Binary(UUID(TOWER).bytes, 4), "models": [STRUCTURE], "permissions": admins}
    mongo[name]["projects"].insert_one(project)
    yield name
    mongo.drop_database(name)


@pytest.fixture
def queries() -> Queries:
    return Queries()


@pytest.fixture
def make(mongo_uri: str, queries: Queries) -> Iterator[Callable[..., Permissions]]:
    client: MongoClient[dict[str, Any]]
    with MongoClient(mongo_uri, event_listeners=[queries]) as client:

        def permissions(*, ttl: float = 60, size: int = 100, timeout: float = SECONDS) -> Permissions:
            return Permissions(Store(client, users_collection="users"), Metrics(), ttl=ttl, size=size, timeout=timeout)

        yield permissions


def all_at_once(ask: Callable[[int], bool], number: int, queries: Queries) -> list[bool]:
    """Ask from that many threads; the first query leaves only when every thread has asked."""
    queries.gate.clear()
    waiting = threading.Barrier(number + 1)

    def run(index: int) -> bool:
        waiting.wait(SECONDS)
        return ask(index)

    with unmeasured(), ThreadPoolExecutor(number) as pool:
        answers = [pool.submit(run, index) for index in range(number)]
        waiting.wait(SECONDS)
        assert queries.arrived.wait(SECONDS)
        queries.gate.set()
        return [answer.result(SECONDS) for answer in answers]


def test_who_asks_at_the_same_time_shares_one_look_up(
    make: Callable[..., Permissions], teamspace: str, queries: Queries
) -> None:
    permissions = make()

    def ask(number: int) -> bool:
        return permissions.may_read_model(f"user{number}", teamspace, TOWER, STRUCTURE)

    assert all(all_at_once(ask, 50, queries))
    assert queries.seen == {"settings": 1, "projects": 1}


def test_refusals_at_the_same_time_cost_a_handful(
    make: Callable[..., Permissions], teamspace: str, queries: Queries
) -> None:
    permissions = make()

    def ask(number: int) -> bool:
        return permissions.may_read_model(f"stranger{number}", teamspace, TOWER, STRUCTURE)

    assert not any(all_at_once(ask, 50, queries))
    assert sum(queries.seen.values()) <= 8


def test_an_answer_is_believed_for_its_time_whichever_case_its_uuids_have(
    make: Callable[..., Permissions], teamspace: str, queries: Queries, mongo: MongoClient[dict[str, Any]]
) -> None:
    permissions = make()
    assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE)
    mongo[teamspace]["settings"].delete_many({})
    assert permissions.may_read_model("user2", teamspace, TOWER.upper(), STRUCTURE.upper())
    assert permissions.may_read_model("user3", teamspace, None, STRUCTURE)
    assert queries.seen == {"settings": 1, "projects": 1}


def test_a_change_that_is_told_counts_at_once(
    make: Callable[..., Permissions], teamspace: str, mongo: MongoClient[dict[str, Any]]
) -> None:
    permissions = make()
    assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE)
    mongo[teamspace]["settings"].delete_many({})
    permissions.invalidate("another")
    assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE)
    permissions.invalidate(teamspace)
    assert not permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE)


def test_both_queries_of_a_model_are_on_their_way_at_the_same_time(
    make: Callable[..., Permissions], teamspace: str, queries: Queries
) -> None:
    permissions = make()
    queries.gate.clear()
    with unmeasured(), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(permissions.may_read_model, "user1", teamspace, TOWER, STRUCTURE)
        until(lambda: queries.seen == {"settings": 1, "projects": 1}, lambda: queries.seen)
        queries.gate.set()
        assert answer.result(SECONDS)


def nearly_too_old(before: float) -> None:
    """Wait until what was asked for since `before` has more than half of the age that it may have."""
    asked = monotonic()
    until(lambda: monotonic() - asked > asked - before)


def test_what_others_will_ask_for_is_read_again_before_it_is_too_old(
    make: Callable[..., Permissions], teamspace: str, queries: Queries, mongo: MongoClient[dict[str, Any]]
) -> None:
    permissions = make()
    before = monotonic()
    assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE)
    nearly_too_old(before)
    mongo[teamspace]["settings"].delete_many({})
    for _ in range(3):
        permissions.announce([(teamspace, TOWER, STRUCTURE)], since=inf)
    queries.arrived.clear()
    queries.gate.clear()
    with unmeasured():
        # Nobody waits for the answer that is on its way.
        assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE, since=before)
        assert queries.arrived.wait(SECONDS)
        assert permissions.may_read_model("user2", teamspace, TOWER, STRUCTURE, since=before)
        queries.gate.set()
        until(lambda: not permissions.may_read_model("user3", teamspace, TOWER, STRUCTURE, since=before))
    assert queries.seen["settings"] == 2


def test_what_only_one_asks_for_is_not_read_again(
    make: Callable[..., Permissions], teamspace: str, queries: Queries
) -> None:
    permissions = make()
    before = monotonic()
    assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE)
    nearly_too_old(before)
    permissions.announce([(teamspace, TOWER, STRUCTURE)], since=inf)
    for _ in range(3):
        assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE, since=before)
    # The next list that is read has been read by then, had there been another.
    assert permissions.may_watch_project("pat", teamspace, TOWER)
    assert queries.seen == {"settings": 1, "projects": 2}


def test_an_answer_that_could_not_be_read_again_counts_for_its_time(mongo_uri: str, teamspace: str) -> None:
    metrics = Metrics()
    with MongoProxy(mongo_uri) as database, MongoClient[dict[str, Any]](database.uri, retryReads=False) as client:
        store = Store(client, users_collection="users")
        permissions = Permissions(store, metrics, ttl=60, size=10, timeout=SECONDS)
        before = monotonic()
        assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE)
        nearly_too_old(before)
        database.no_primary = Failure(189, "not primary")
        for _ in range(2):
            permissions.announce([(teamspace, TOWER, STRUCTURE)], since=inf)
        with unmeasured():
            assert permissions.may_read_model("user1", teamspace, TOWER, STRUCTURE, since=before)
            until(lambda: metrics.registry.get_sample_value("repo_notify_permission_errors_total") == 1)
        assert permissions.may_read_model("user2", teamspace, TOWER, STRUCTURE, since=before)


def test_what_is_on_its_way_when_a_change_is_told_is_not_kept(
    make: Callable[..., Permissions], teamspace: str, queries: Queries, mongo: MongoClient[dict[str, Any]]
) -> None:
    permissions = make()
    queries.gate.clear()
    with unmeasured(), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(permissions.may_watch_project, "pat", teamspace, TOWER)
        assert queries.arrived.wait(SECONDS)
        permissions.invalidate(teamspace)
        queries.gate.set()
        assert answer.result(SECONDS)
    mongo[teamspace]["projects"].delete_many({})
    assert not permissions.may_watch_project("pat", teamspace, TOWER)


REFUSED = {
    "no such model": (TOWER, str(UUID(int=1))),
    "no read access": (TOWER, STRUCTURE),
    "not in that project": (str(UUID(int=2)), STRUCTURE),
    "no such project either": (str(UUID(int=2)), str(UUID(int=1))),
    "v4, no such model": (None, str(UUID(int=1))),
}


@pytest.mark.parametrize(("project", "model"), REFUSED.values(), ids=REFUSED)
def test_whether_a_model_exists_does_not_show_by_the_look_ups_of_a_refusal(
    make: Callable[..., Permissions], teamspace: str, queries: Queries, project: str | None, model: str
) -> None:
    assert not make().may_read_model("mallory", teamspace, project, model)
    assert queries.seen == {"settings": 1, "projects": 1, "teamspace": 1, "users": 1}


@pytest.mark.parametrize("project", [TOWER, str(UUID(int=2))], ids=["not an admin", "no such project"])
def test_whether_a_project_exists_does_not_show_by_the_look_ups_of_a_refusal(
    make: Callable[..., Permissions], teamspace: str, queries: Queries, project: str
) -> None:
    assert not make().may_watch_project("mallory", teamspace, project)
    assert queries.seen == {"projects": 1, "teamspace": 1, "users": 1}


def test_without_a_cache_every_question_is_asked(
    make: Callable[..., Permissions], teamspace: str, queries: Queries
) -> None:
    permissions = make(ttl=0)
    for _ in range(3):
        assert permissions.may_watch_project("pat", teamspace, TOWER)
    assert queries.seen == {"projects": 3}


def test_the_cache_is_bounded(make: Callable[..., Permissions], teamspace: str) -> None:
    permissions = make(size=10)
    for _ in range(50):
        permissions.may_read_model("user1", teamspace, TOWER, str(uuid4()))
    assert len(permissions._look_ups) == 10


@pytest.mark.parametrize(
    "name", ["admin", "local", "config", "ADMIN", "", "a.b", "a/b", "a\0b", "a$b", "x" * 64, "\ud800"]
)
def test_no_query_is_built_for_what_is_no_teamspace(
    make: Callable[..., Permissions], queries: Queries, name: str
) -> None:
    permissions = make()
    assert not permissions.may_read_model("user1", name, TOWER, STRUCTURE)
    assert not permissions.may_watch_project("pat", name, TOWER)
    assert not permissions.administers("user1", name)
    assert not queries.seen


@pytest.mark.parametrize("model", ["", "a\0b", "x" * 1_025, "\udfff"])
def test_no_query_is_built_for_what_is_no_model(
    make: Callable[..., Permissions], teamspace: str, queries: Queries, model: str
) -> None:
    assert not make().may_read_model("user1", teamspace, TOWER, model)
    assert not queries.seen


def test_a_database_that_is_away_is_told_in_time_and_asked_again() -> None:
    client = connect(f"mongodb://127.0.0.1:{free_port()}", timeout=0.2)
    with client:
        permissions = Permissions(Store(client, users_collection="users"), Metrics(), ttl=60, size=10, timeout=0.2)
        for _ in range(2):
            started = monotonic()
            with pytest.raises(PermissionsUnavailable):
                permissions.may_watch_project("pat", "acme", TOWER)
            assert monotonic() - started < 2
        assert len(permissions._look_ups) == 0


def test_who_waits_for_anothers_look_up_does_not_wait_for_ever(
    make: Callable[..., Permissions], teamspace: str, queries: Queries
) -> None:
    # Connects, which may take longer than a look-up may.
    make().administers("pat", teamspace)
    permissions = make(timeout=0.2)
    queries.arrived.clear()
    queries.gate.clear()
    with unmeasured(), ThreadPoolExecutor(1) as pool:
        pool.submit(permissions.may_watch_project, "pat", teamspace, TOWER)
        assert queries.arrived.wait(SECONDS)
        with pytest.raises(PermissionsUnavailable):
            permissions.may_watch_project("pat", teamspace, TOWER)
        queries.gate.set()
