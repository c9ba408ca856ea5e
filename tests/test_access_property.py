"""Random rights, joins, leaves and events: nothing reaches anybody whose right ended a second ago (spec section 10).

`REPO_NOTIFY_TEST_ACCESS_EVENTS` says how many events there are, `REPO_NOTIFY_TEST_ACCESS_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

import pytest
import requests
from pymongo import MongoClient

from repo_notify.testing.client import Client
from tests.support.people import LEGACY, People
from tests.support.rights import Documents, RoomOf
from tests.support.served import SECONDS, Served
from tests.support.streams import await_stream

EVENTS = int(os.environ.get("REPO_NOTIFY_TEST_ACCESS_EVENTS", "10000"))
SEED = int(os.environ.get("REPO_NOTIFY_TEST_ACCESS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
AT_ONCE = 50
# So that most of what is taken away stays away for longer than the second.
STEP_SECONDS = 0.15
# Between the acknowledgement of the write and the first event that must not arrive.
LATE_SECONDS = 1.0
KEY = "a key of the tests'"
NEVER = 3_600
CONFIG: dict[str, Any] = {
    "REPO_NOTIFY_API_KEY": KEY,
    "REPO_NOTIFY_RECHECK_SECONDS": NEVER,
    "REPO_NOTIFY_PERMISSION_CACHE_SECONDS": NEVER,
    "REPO_NOTIFY_LEGACY_PERMISSIONS": False,
}
# How many models each project of each teamspace has. Rooms of the last are empty most of the time, so that only
# the cache may know what was right there; nor is a new model published there, which would empty the cache.
MODELS = {"a": (2, 1), "b": (1,), "quiet": (1,)}
IN_QUIET = 2
USERS = ("uma", "una", "udo", "ute", "ulf")
CONNECTIONS: tuple[tuple[Any, str], ...] = (("v5", "/"), ("v4", "/"), ("v4", LEGACY))
FOREVER = float("inf")
# How often things have to happen, for each event.
LEAST = {"rights given": 0.01, "rights taken": 0.01, "joins granted": 0.005, "joins refused": 0.005, "deliveries": 0.5}

pytestmark = pytest.mark.timeout(60 + EVENTS // 20)


@dataclass
class Right:
    """Whether a user may enter a room; times are in monotonic seconds."""

    held: bool = False
    # When the write that gave it began, or when the one that took it was acknowledged.
    since: float = 0.0


@dataclass
class Membership:
    """When somebody surely was in a room, and when he may have been: spans of time, the last perhaps open."""

    surely: list[list[float]] = field(default_factory=list)
    perhaps: list[list[float]] = field(default_factory=list)

    def entered(self, asked: float, answered: float, right: Right) -> None:
        if not (self.perhaps and self.perhaps[-1][1] > asked):
            self.perhaps.append([asked, FOREVER])
        # Joined by what a cache knew, he goes with the right.
        self.perhaps[-1][1] = FOREVER if right.held else min(self.perhaps[-1][1], answered + LATE_SECONDS)
        if right.held and not (self.surely and self.surely[-1][1] == FOREVER):
            self.surely.append([answered, FOREVER])

    def left(self, asked: float, answered: float) -> None:
        self._close(self.surely, asked)
        self._close(self.perhaps, answered)

    def lost_right(self, began: float, acknowledged: float) -> None:
        self._close(self.surely, began)
        self._close(self.perhaps, acknowledged + LATE_SECONDS)

    def gained_right(self, began: float) -> None:
        # Nobody has looked yet, perhaps: then he stays.
        if self.perhaps and began < self.perhaps[-1][1]:
            self.perhaps[-1][1] = FOREVER

    @staticmethod
    def _close(spans: list[list[float]], at: float) -> None:
        if spans:
            spans[-1][1] = min(spans[-1][1], at)

    def must_hear(self, began: float, ended: float) -> bool:
        return any(start <= began and ended <= end for start, end in self.surely)

    def may_hear(self, began: float, ended: float) -> bool:
        return any(start <= ended and began <= end for start, end in self.perhaps)


class Published(NamedTuple):
    """An event that may arrive: the rooms that hear it by a name of one generation, and when it was published."""

    rooms: tuple[RoomOf, ...]
    began: float
    ended: float


@dataclass
class Listener:
    user: str
    client: Client
    memberships: dict[RoomOf, Membership] = field(default_factory=dict)
    # By number and whether the name is v4's.
    heard: Counter[tuple[int, bool]] = field(default_factory=Counter)

    def listen(self) -> None:
        for name, data in self.client.heard():
            if name in ("containerUpdateTicket", "newContainer"):
                self.heard[data["data"]["n"], False] += 1
            elif name.endswith("::newModel"):
                self.heard[data["n"], True] += 1
            elif name.endswith("::newIssues"):
                self.heard[data[0]["n"], True] += 1


class World:
    """The teamspaces, who is connected, what happened, and what was wrong."""

    def __init__(self, served: Served, mongo: MongoClient[dict[str, Any]], listeners: list[Listener]) -> None:
        self.chance = random.Random(SEED)
        self.served, self.mongo, self.listeners = served, mongo, listeners
        prefix = f"p{os.getpid()}x{SEED}"
        self.teamspaces = [Documents.make(f"{prefix}{name}", models) for name, models in MODELS.items()]
        self.of = {room: documents for documents in self.teamspaces for room in documents.rooms()}
        self.told = [room for room in self.of if room.model is not None or self.of[room] is not self.teamspaces[-1]]
        self.rights = {(user, room): Right() for user in USERS for room in self.of}
        self.published: dict[tuple[int, bool], Published] = {}
        self.events = 0
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.http = requests.Session()

    # Writes

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One write to the database: note whose right it gave and whose it took."""
        began = monotonic()
        yield
        acknowledged = monotonic()
        for (user, room), right in self.rights.items():
            held = self.of[room].may_enter(user, room)
            if held == right.held:
                continue
            right.held, right.since = held, began if held else acknowledged
            self.outcomes["rights given" if held else "rights taken"] += 1
            for listener in self.listeners:
                membership = listener.memberships.get(room) if listener.user == user else None
                if membership is not None and held:
                    membership.gained_right(began)
                elif membership is not None:
                    membership.lost_right(began, acknowledged)

    def change(self) -> None:
        documents = self.chance.choice(self.teamspaces)
        kinds: dict[Callable[[Documents], None], int] = {
            self.change_model: 50,
            self.change_project: 20,
            self.change_teamspace: 10,
            self.drop_database: 2,
        }
        (change,) = self.chance.choices(list(kinds), list(kinds.values()))
        change(documents)

    def change_model(self, documents: Documents) -> None:
        model = self.chance.choice([model for models in documents.projects.values() for model in models])
        readers = documents.readers.get(model)
        if readers is None:
            documents.readers[model] = {user: "viewer" for user in USERS if self.chance.random() < 0.7}
        elif self.chance.random() < 0.1:
            documents.readers[model] = None
        else:
            user = self.chance.choice(USERS)
            readers[user] = self.chance.choice(("viewer", "commenter", "collaborator", "none of these", "none"))
        with self.writing():
            documents.write_model(self.mongo, model)

    def change_project(self, documents: Documents) -> None:
        project = self.chance.choice(list(documents.projects))
        admins = documents.project_admins.get(project)
        if admins is None:
            documents.project_admins[project] = set(self.chance.sample(USERS, 2))
        elif self.chance.random() < 0.1:
            documents.project_admins[project] = None
        else:
            admins ^= {self.chance.choice(USERS)}
        with self.writing():
            documents.write_project(self.mongo, project)

    def change_teamspace(self, documents: Documents) -> None:
        if documents.admins is None:
            documents.admins = set()
        elif self.chance.random() < 0.1:
            documents.admins = None
        else:
            documents.admins ^= {self.chance.choice(USERS)}
        with self.writing():
            documents.write_teamspace(self.mongo)

    def drop_database(self, documents: Documents) -> None:
        documents.readers.clear()
        documents.project_admins.clear()
        documents.admins = None
        with self.writing():
            self.mongo.drop_database(documents.name)
        if self.chance.random() < 0.5:
            self.create(documents)

    def create(self, documents: Documents) -> None:
        """Write what is not there."""
        for project, models in documents.projects.items():
            if documents.project_admins.get(project) is None:
                documents.project_admins[project] = set(self.chance.sample(USERS, 2))
                with self.writing():
                    documents.write_project(self.mongo, project)
            for model in models:
                if documents.readers.get(model) is None:
                    documents.readers[model] = {user: "viewer" for user in USERS if self.chance.random() < 0.7}
                    with self.writing():
                        documents.write_model(self.mongo, model)
        if documents.admins is None:
            documents.admins = {self.chance.choice(USERS)}
        with self.writing():
            documents.write_teamspace(self.mongo)

    # Joins and leaves

    def join(self, listener: Listener, room: RoomOf) -> None:
        right = self.rights[listener.user, room]
        asked = monotonic()
        reply = listener.client.ask("join", room.object)
        answered = monotonic()
        entered = reply.get("event") == "success"
        self.outcomes["joins granted" if entered else "joins refused"] += 1
        if asked > right.since + LATE_SECONDS and entered != right.held:
            self.wrong.append(f"{listener.user} {'entered' if entered else 'was refused'} {room}, right: {right}")
        if entered:
            listener.memberships.setdefault(room, Membership()).entered(asked, answered, right)

    def leave(self, listener: Listener, room: RoomOf) -> None:
        asked = monotonic()
        listener.client.ask("leave", room.object)
        if room in listener.memberships:
            listener.memberships[room].left(asked, monotonic())

    # Events

    def publish(self) -> None:
        batch, meant = [], {}
        for _ in range(AT_ONCE):
            number = self.events = self.events + 1
            body, heard = self._event(number, self.chance.choice(self.told))
            batch.append(body)
            meant.update({(number, is_v4): rooms for is_v4, rooms in heard.items()})
        began = monotonic()
        answer = self.http.post(
            self.served.url + "/notify/events",
            json=batch,
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=SECONDS,
        )
        assert answer.status_code == 202, answer.text
        ended = monotonic()
        self.published.update({key: Published(rooms, began, ended) for key, rooms in meant.items()})

    def _event(self, number: int, room: RoomOf) -> tuple[dict[str, Any], dict[bool, tuple[RoomOf, ...]]]:
        """Return the event that is to reach a room, and the rooms that hear it by its v5 and its v4 name."""
        name, whole = room.teamspace, RoomOf(room.teamspace, None, None)
        if room.model is not None and room.project is not None:
            ids = {"teamspace": name, "project": room.project, "model": room.model}
            return {"type": "TicketUpdated", **ids, "kind": "container", "data": {"n": number}}, {False: (room,)}
        if room.model is not None:
            body = {"type": "IssuesCreated", "teamspace": name, "model": room.model, "issues": [{"n": number}]}
            return body, {True: (room, whole)}
        project = room.project or self.chance.choice(list(self.of[room].projects))
        data: dict[str, Any] = {"_id": f"new{number}", "n": number}
        created = {"type": "ModelCreated", "teamspace": name, "project": project, "kind": "container", "data": data}
        return created, {False: (RoomOf(name, project, None),), True: (whole,)}

    # The verdict

    def judge(self) -> None:
        """Look at everything that was published since the last time."""
        for listener in self.listeners:
            listener.listen()
            for key, event in self.published.items():
                heard = listener.heard.pop(key, 0)
                found = [listener.memberships[room] for room in event.rooms if room in listener.memberships]
                must = any(one.must_hear(event.began, event.ended) for one in found)
                may = any(one.may_hear(event.began, event.ended) for one in found)
                self.outcomes["deliveries"] += heard
                if heard > 1 or (heard and not may) or (must and not heard):
                    self.wrong.append(self._said(listener, key[0], event, heard))
            assert not listener.heard, "heard what was never published"
        self.published.clear()

    def _said(self, listener: Listener, number: int, event: Published, heard: int) -> str:
        since = {room: event.began - self.rights[listener.user, room].since for room in event.rooms}
        return (
            f"event {number} reached {listener.user} {heard} times; seconds since the last change of his right: "
            f"{since}; {[listener.memberships.get(room) for room in event.rooms]}, published {event.began:.3f}"
        )

    def step(self) -> None:
        for _ in range(self.chance.randint(0, 3)):
            self.change()
        for _ in range(self.chance.randint(0, 6)):
            room = self.chance.choice(list(self.of))
            is_quiet = self.of[room] is self.teamspaces[-1]
            listener = self.chance.choice(self.listeners[:IN_QUIET] if is_quiet else self.listeners)
            (self.leave if self.chance.random() < (0.6 if is_quiet else 0.2) else self.join)(listener, room)
        self.publish()
        self.judge()


@pytest.fixture
def world(serve_host: Callable[..., Served], mongo: MongoClient[dict[str, Any]]) -> Iterator[World]:
    served = serve_host(**CONFIG)
    await_stream(served)
    people = People(served)
    with ExitStack() as stack:
        listeners = []
        for number, user in enumerate(USERS * 2):
            generation, namespace = CONNECTIONS[number % len(CONNECTIONS)]
            client = Client(served.url, cookie=people.user(user).cookie, generation=generation, namespace=namespace)
            listeners.append(Listener(user, stack.enter_context(client)))
        made = World(served, mongo, listeners)
        for documents in made.teamspaces:
            stack.callback(mongo.drop_database, documents.name)
        yield made


def test_no_event_reaches_anybody_whose_right_ended_a_second_ago(world: World) -> None:
    for documents in world.teamspaces:
        documents.admins = None
        world.create(documents)
    for listener in world.listeners:
        for room, documents in world.of.items():
            if documents is not world.teamspaces[-1]:
                world.join(listener, room)
    pause = threading.Event()
    while world.events < EVENTS:
        next_step = monotonic() + STEP_SECONDS
        world.step()
        assert not world.wrong, f"REPO_NOTIFY_TEST_ACCESS_SEED={SEED}: {world.wrong[:5]}"
        # What is awaited is that time passes.
        pause.wait(max(0.0, next_step - monotonic()))
    # A run that gave, took, let in and refused next to nothing would prove nothing.
    assert all(world.outcomes[name] >= share * EVENTS for name, share in LEAST.items()), world.outcomes
