"""The history's store by itself: what it keeps, what it knows to be missing, and what it does when it cannot write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from time import monotonic, time
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient

from repo_notify.delivery.history import mongodb
from repo_notify.delivery.history.history import History
from repo_notify.delivery.history.log import Bounds, Log
from repo_notify.delivery.history.mongodb import RUN, MongoHistory
from repo_notify.delivery.history.packing import key_of, pack, unpack
from repo_notify.delivery.history.positions import Gap
from repo_notify.delivery.history.record_writer import MAX_ENDED, MAX_RECORDS
from repo_notify.delivery.history.records import Record
from repo_notify.delivery.history.store import Resumed, Run, Stored, StoreUnavailable, Unstorable, floor_of, with_lasts
from repo_notify.delivery.history.stored_records import StoredRecords
from repo_notify.delivery.history.writer import BATCH_ENTRIES, Writer
from repo_notify.membership import keeping
from repo_notify.metrics import Metrics
from repo_notify.settings import read
from tests.support.mongo_proxy import MongoProxy
from tests.support.until import SECONDS, until

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
)  # fmt: skip
PID = "p" * 22 + "sid"


@given(VALUES)
def test_every_plain_value_survives(value: Any) -> None:
    assert unpack(pack(value)) == value


@pytest.mark.parametrize(
    ("runs", "numbers", "floor"),
    [
        ([Run(0, 0)], [], 0),
        ([Run(0, 9), Run(100, 100)], [1, 2, 9], 0),
        # What is old is forgotten from the front, all of it at last.
        ([Run(0, 9), Run(100, 100)], [5, 9], 4),
        ([Run(0, 9), Run(100, 100)], [], 9),
        ([Run(0, 9), Run(100, 104), Run(200, 200)], [101, 104], 9),
        ([Run(0, 9), Run(100, 104), Run(200, 200)], [103], 102),
        # Never stored.
        ([Run(0, 9, 3), Run(100, 100)], [1, 2, 9], 3),
    ],
)
def test_what_is_missing_is_known(runs: Sequence[Run], numbers: Sequence[int], floor: int) -> None:
    assert floor_of(runs, numbers) == floor


def test_a_run_has_what_is_there_although_it_did_not_say_so() -> None:
    runs = [Run(0, 3), Run(100, 100), Run(200, 200)]
    assert with_lasts(runs, [2, 5, 101, 102]) == [Run(0, 5), Run(100, 102), Run(200, 200)]


@pytest.mark.parametrize(("floor", "least"), [(0, 100), (102, 102)])
def test_a_number_of_another_run_is_known_from_the_floor_and_the_earliest_run_on(floor: int, least: int) -> None:
    log = Log(Bounds())
    log.go_on(100, 200, floor)
    assert [number for number in range(300) if log.reaches(number, ())] == [*range(least, 300)]


def test_a_history_goes_on_where_it_ended(writer: Writer) -> None:
    history = History(Bounds())
    runs = [Run(100, 103), Run(200, 200)]
    entries = [Stored(101, time(), ("trimmed",), 5, trimmed=True), entry(102, "a"), entry(103, "b")]
    history.resume(Resumed("abcd", runs, entries), lambda name, payload: (name, payload), writer)
    assert history.position == "abcd.c8"
    assert history.read("abcd.64") == 100
    assert [each.prepared for each in history.after({"room": 102})] == [("name", "b")]
    assert [history.reaches(100, [room]) for room in ("room", "trimmed")] == [True, False]
    assert history.reaches(101, ["trimmed"])


@pytest.fixture
def name(mongo: MongoClient[dict[str, Any]]) -> Iterator[str]:
    found = f"history_{uuid4().hex}"
    yield found
    mongo.drop_database(found)


@pytest.fixture
def make(mongo: MongoClient[dict[str, Any]], name: str) -> Callable[..., MongoHistory]:
    """Make a store as another life of the process would."""
    return lambda seconds=300.0: MongoHistory(mongo, name, seconds=seconds)


def entry(number: int, payload: Any = None, *, at: float | None = None) -> Stored:
    update = ("name", ("room",), "1", "None", frozenset({"_id", "status"}))
    return Stored(number, time() if at is None else at, ("room",), 500, "name", payload, "emitter", "", update)


def record(**changed: Any) -> Record:
    found: dict[str, Any] = {
        "pid": PID, "namespace": "/", "sid": "sid", "ids": frozenset({"sid", "connection"}), "username": "carol",
        "session_id": "session", "named": True, "since": 3, "rooms": {"room": 1 << 41}, "number": 7, "reason": "why",
        "replaying": {"room": 2}, "objects": {"room": {"model": b"\x00", "half": "\ud800"}},
    }  # fmt: skip
    return Record(**{**found, **changed})


def test_entries_are_as_they_were(make: Callable[..., MongoHistory]) -> None:
    first = make()
    begun = first.resume("abcd").runs[-1].begun
    entries = [entry(begun + number, {"bytes": b"\x00\xff", "large": 1 << 70}) for number in range(1, 4)]
    first.add(entries[:2], Run(begun, begun + 2))
    # Its answer was lost.
    first.add(entries, Run(begun, begun + 3))
    found = make().resume("another")
    assert found.name == "abcd"
    assert [(each.number, each.payload, each.update) for each in found.entries] == [
        (each.number, each.payload, each.update) for each in entries
    ]
    assert found.runs == [Run(begun, begun + 3), Run(begun + RUN, begun + RUN)]


def test_of_what_is_trimmed_the_rooms_are_left(make: Callable[..., MongoHistory]) -> None:
    store = make()
    begun = store.resume("abcd").runs[-1].begun
    store.add([entry(begun + number) for number in range(1, 4)], Run(begun, begun + 3))
    store.trim(0, begun + 3)
    found = make().resume("abcd").entries
    assert [(each.trimmed, each.rooms) for each in found] == [(True, ("room",))] * 2 + [(False, ("room",))]


def test_what_is_too_old_is_forgotten(make: Callable[..., MongoHistory]) -> None:
    store = make()
    begun = store.resume("abcd").runs[-1].begun
    store.add([entry(begun + 1, at=time() - 1_000), entry(begun + 2)], Run(begun, begun + 2))
    found = make().resume("abcd")
    assert [each.number for each in found.entries] == [begun + 2]
    assert floor_of(found.runs, [begun + 2]) == begun + 1


def test_the_time_of_what_is_kept_may_change(
    make: Callable[..., MongoHistory], mongo: MongoClient[dict[str, Any]], name: str
) -> None:
    for seconds in (300.0, 300.0, 60.0):
        make(seconds).resume("abcd")
        assert mongo[name]["entries"].index_information()["at"]["expireAfterSeconds"] == seconds + 120


def test_an_entry_that_is_too_large_is_given_up(make: Callable[..., MongoHistory]) -> None:
    store = make()
    begun = store.resume("abcd").runs[-1].begun
    large = Stored(begun + 2, time(), ("room",), 17_000_000, "name", "x" * 17_000_000)
    with pytest.raises(Unstorable) as raised:
        store.add([entry(begun + 1), large], Run(begun, begun + 2))
    assert raised.value.number == begun + 2


def test_records_are_as_they_were(make: Callable[..., MongoHistory]) -> None:
    store = make()
    store.resume("abcd")
    ended, live = record(at=monotonic() - 10), record(pid="l" * 30, live=True, session_id=None)
    store.save({key_of(each.pid): each for each in (ended, live)}, ())
    found = store.record(PID, key_of(PID))
    assert found is not None
    assert found.revived
    assert found.at == pytest.approx(ended.at, abs=0.1)
    found.revived, found.at = False, ended.at
    assert found == ended
    # The connection is this run's own.
    assert store.record(live.pid, key_of(live.pid)) is None
    # It ended when the process was last alive.
    after = make()
    after.resume("abcd")
    assert after.record(live.pid, key_of(live.pid)) is not None


@pytest.mark.parametrize("how", ["deleted", "session", "old", "large"])
def test_records_that_are_gone(make: Callable[..., MongoHistory], how: str) -> None:
    store = make()
    store.resume("abcd")
    rooms = {str(number): number for number in range(600_000)} if how == "large" else {}
    at = monotonic() - (400 if how == "old" else 0)
    store.save({key_of(PID): record(at=at, rooms=rooms)}, ["session"] if how == "session" else ())
    if how == "deleted":
        assert store.record(PID, key_of(PID)) is not None
        store.save({key_of(PID): None}, ())
    assert store.record(PID, key_of(PID)) is None


class FakeStore:
    """A store in memory that fails when it is told to; `written` has what it was given."""

    def __init__(self) -> None:
        self.away = False
        self.unstorable: set[int] = set()
        self.written: list[Stored] = []
        self.runs: list[Run] = []
        self.records: dict[str, Record | None] = {}
        self.sessions: set[str] = set()
        self.asked = 0
        self.failed = threading.Event()

    def _be(self) -> None:
        if self.away:
            self.failed.set()
            raise StoreUnavailable("away")

    def resume(self, name: str) -> Resumed:
        raise NotImplementedError

    def begin_anew(self, name: str) -> None:
        raise NotImplementedError

    def add(self, entries: Sequence[Stored], run: Run) -> None:
        self._be()
        for each in entries:
            if each.number in self.unstorable:
                raise Unstorable(each.number, "too large")
        self.written.extend(entries)
        self.runs.append(run)

    def trim(self, after: int, first: int) -> None:
        raise NotImplementedError

    def beat(self) -> None:
        self._be()

    def save(self, records: Mapping[str, Record | None], sessions: Collection[str]) -> None:
        self._be()
        self.records.update(records)
        self.sessions.update(sessions)

    def record(self, pid: str, key: str) -> Record | None:
        self._be()
        self.asked += 1
        return self.records.get(key)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def writer(store: FakeStore) -> Iterator[Writer]:
    found = Writer(store, Log(Bounds(events=5)))
    yield found
    store.away = False
    found.close(SECONDS)


def test_an_entry_that_cannot_be_stored_is_a_hole(store: FakeStore, writer: Writer) -> None:
    store.unstorable = {2}
    writer.start(0)
    for number in (1, 2, 3):
        writer.add(entry(number))
    assert not writer.wait(0, SECONDS)
    assert writer.wait(2, SECONDS)
    assert [each.number for each in store.written] == [1, 3]
    assert store.runs[-1] == Run(0, 3, 2)


def test_a_hole_is_stored_although_nothing_is_published(store: FakeStore, writer: Writer) -> None:
    writer.start(0)
    writer.hole(7)
    until(lambda: store.runs == [Run(0, 0, 7)])


def test_no_more_waits_than_is_kept(store: FakeStore, writer: Writer) -> None:
    store.away = True
    writer.start(0)
    for number in range(1, BATCH_ENTRIES + 11):
        writer.add(entry(number))
    assert writer.waiting == BATCH_ENTRIES
    assert not writer.wait(10, 0.0)
    store.away = False
    # What was dropped is not in the store, and never will be.
    assert writer.wait(10, SECONDS)
    assert not writer.wait(9, SECONDS)
    assert store.runs[-1] == Run(0, BATCH_ENTRIES + 10, 10)


def test_records_wait_for_a_store_that_is_away(store: FakeStore, writer: Writer) -> None:
    store.away = True
    writer.start(0)
    writer.save(PID, record(number=1))
    assert store.failed.wait(SECONDS)
    assert writer.problem() is not None
    writer.save(PID, record(number=2))
    writer.end_sessions(["another"])
    assert writer.knows(PID)
    store.away = False
    until(lambda: store.sessions == {"another"})
    found = store.records[key_of(PID)]
    assert found is not None
    assert found.number == 2
    until(lambda: not writer.knows(PID) and writer.problem() is None)


def test_what_waits_of_records_is_bounded(writer: Writer) -> None:
    for number in range(MAX_RECORDS + 1):
        writer.save(str(number), None)
    assert not writer.knows("0")
    assert writer.knows("1")
    writer.end_sessions(str(number) for number in range(MAX_ENDED + 1))
    assert not writer.has_ended("0")
    assert writer.has_ended("1")


def test_the_end_writes_what_waits(store: FakeStore, writer: Writer) -> None:
    writer.start(0)
    writer.add(entry(1))
    writer.close(SECONDS)
    assert [each.number for each in store.written] == [1]
    # A request that was under way.
    writer.add(entry(2))
    writer.close(SECONDS)
    assert [each.number for each in store.written] == [1, 2]


@pytest.fixture
def records(writer: Writer) -> StoredRecords:
    return StoredRecords(300.0, lambda _: None, writer=writer)


def test_a_record_of_another_run_is_taken_once(store: FakeStore, writer: Writer, records: StoredRecords) -> None:
    store.records[key_of(PID)] = record()
    assert records.get(PID) is not None
    assert records.get(PID) is not None
    assert store.asked == 1
    assert records.take(PID) is not None
    assert records.take(PID) is None
    # It is not deleted in the store yet.
    assert records.get(PID) is None


def test_the_record_of_an_ended_session_is_not_believed(store: FakeStore, records: StoredRecords) -> None:
    store.records[key_of(PID)] = record()
    records.end_sessions(["session"])
    assert records.get(PID) is None


@pytest.mark.parametrize("pid", ["", "short", "x" * 101, "{" * 40, "é" * 40])
def test_what_is_no_secret_is_not_asked_for(store: FakeStore, records: StoredRecords, pid: str) -> None:
    assert records.get(pid) is None
    assert store.asked == 0


def test_a_store_that_does_not_answer_is_a_gap(store: FakeStore, records: StoredRecords) -> None:
    store.away = True
    with pytest.raises(Gap):
        records.get(PID)


class FakeSockets:
    """As much of sockets as the opening of a history needs."""

    keeps = True
    order = nullcontext()

    @staticmethod
    def content(payload: Any) -> Any:
        return payload

    @staticmethod
    def prepare(name: str, payload: Any) -> tuple[str, Any]:
        return name, payload


def test_where_the_store_is_away_at_the_start_a_history_begins_anew(
    mongo: MongoClient[dict[str, Any]], mongo_uri: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "OPEN_SECONDS", 0.0)
    for bound in ("RESUME_SECONDS", "CALL_SECONDS"):
        monkeypatch.setattr(mongodb, bound, 1.0)
    old = MongoHistory(mongo, name, seconds=300.0)
    begun = old.resume("abcd").runs[-1].begun
    old.add([entry(begun + 1)], Run(begun, begun + 1))
    with MongoProxy(mongo_uri) as proxy:
        config = {
            "REPO_NOTIFY_MONGO_URI": proxy.uri,
            "REPO_NOTIFY_HISTORY": "mongodb",
            "REPO_NOTIFY_HISTORY_DATABASE": name,
            "REPO_NOTIFY_PERMISSION_TIMEOUT": 0.5,
        }
        sockets: Any = FakeSockets()
        found = keeping.make_keeping(read(config), sockets, Metrics())
        history = found.history
        assert isinstance(history, History)
        with proxy.refusing():
            found.open()
            history.publish(("room",), None, 5, said=("name", {"n": 1}), emitter=None, named_by=None, update=None)
            until(lambda: found.problem() is not None)
        assert history.is_stored(0)
        until(lambda: found.problem() is None)
        found.flush(SECONDS)
        found.close()
    after = MongoHistory(mongo, name, seconds=300.0).resume("another")
    assert after.name == history.name
    assert [(each.number, each.payload) for each in after.entries] == [(1, {"n": 1})]
    assert after.runs == [Run(0, 1), Run(RUN, RUN)]
