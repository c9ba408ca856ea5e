"""The history in MongoDB, in a database of its own, for a service of one process (spec section 9).

`entries`: `_id` is the number; what is trimmed has no `said`. `records`: `_id` is the hash of the secret; without `at`
the connection was open when it was written. `runs`: one for each life of the process, `_id` is the number before its
first. `meta`: the history's name, and the last run's beginning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from time import time
from typing import Any, TypeVar

import pymongo
from bson import Binary, Int64
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo import DeleteMany, MongoClient, ReplaceOne, WriteConcern
from pymongo.collection import Collection as Documents
from pymongo.errors import BulkWriteError, DocumentTooLarge, PyMongoError

from .packing import Packed, key_of, pack_entry, pack_record, time_of, unpack_entry, unpack_record
from .records import Record
from .store import Resumed, Run, Stored, StoreUnavailable, Unstorable, with_lasts

Document = dict[str, Any]
T = TypeVar("T")

# Numbers of one run: more than a process publishes in its life, and less than 2^63 for some millions of runs.
RUN = 1 << 40
# The TTL monitor is a minute late at best; what is too old is told by its time and not by its absence.
TTL_MARGIN_SECONDS = 120
# How long one call may take, and the reading at the start.
CALL_SECONDS, RESUME_SECONDS = 5.0, 20.0
# Of so many trimmed entries the rooms are remembered: whoever was in none of them has missed nothing.
TRIMMED_ENTRIES = 100_000
# MongoDB's documents have at most 16 MiB; how long a record may be, in characters.
MAX_RECORD_LENGTH = 8_000_000
_PROBE = "probe"
_DUPLICATE, _TOO_LARGE = 11000, 10334
_AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=timezone.utc)


class MongoHistory:
    """A history's store in one database; `seconds` are the history's."""

    def __init__(self, client: MongoClient[Document], database: str, *, seconds: float) -> None:
        self._client = client
        found = client.get_database(database, codec_options=_AWARE, write_concern=WriteConcern("majority"))
        self._entries: Documents[Document] = found["entries"]
        self._records: Documents[Document] = found["records"]
        self._runs: Documents[Document] = found["runs"]
        self._meta: Documents[Document] = found["meta"]
        self._seconds = seconds
        self._begun = 0

    def resume(self, name: str) -> Resumed:
        """Begin a run."""
        with _within(RESUME_SECONDS):
            self._make_indexes()
            meta: Any = self._meta.find_one_and_update(
                {"_id": "history"},
                {"$inc": {"begun": Int64(RUN)}, "$setOnInsert": {"name": name}},
                upsert=True,
                return_document=pymongo.ReturnDocument.AFTER,
            )
            self._date_records()
            earliest = _date(time() - self._seconds - TTL_MARGIN_SECONDS)
            self._entries.delete_many({"at": {"$lt": earliest}})
            entries = [_read(document, _entry) for document in self._entries.find().sort("_id", 1)]
            self._forget_runs(entries, earliest)
            self._begin(int(meta["begun"]))
            runs = [_read(document, _run) for document in self._runs.find().sort("_id", 1)]
        return Resumed(str(meta["name"]), with_lasts(runs, [entry.number for entry in entries]), entries)

    def begin_anew(self, name: str) -> None:
        """Forget everything and begin a history of that name."""
        with _within(RESUME_SECONDS):
            self._make_indexes()
            for documents in (self._entries, self._records, self._runs):
                documents.delete_many({})
            self._meta.replace_one({"_id": "history"}, {"name": name, "begun": Int64(0)}, upsert=True)
            self._begin(0)

    def _make_indexes(self) -> None:
        for documents in (self._entries, self._records):
            self._make_ttl(documents, round(self._seconds) + TTL_MARGIN_SECONDS)
        self._records.create_index("session", name="session", sparse=True)

    def _make_ttl(self, documents: Documents[Document], seconds: int) -> None:
        made = documents.index_information().get("at")
        if made is not None and made.get("expireAfterSeconds") != seconds:
            # REPO_NOTIFY_HISTORY_SECONDS has changed.
            documents.drop_index("at")
        documents.create_index("at", name="at", expireAfterSeconds=seconds)

    def _date_records(self) -> None:
        """Have the connections that a killed process had end when it was last alive."""
        last = self._runs.find_one(sort=[("_id", -1)])
        if last is not None:
            self._records.update_many({"at": {"$exists": False}}, {"$set": {"at": last["at"]}})

    def _forget_runs(self, entries: Sequence[Stored], earliest: datetime) -> None:
        """Forget the runs of which nothing is left, but for the last one."""
        last = self._runs.find_one(sort=[("_id", -1)])
        if last is not None:
            oldest = min([last["_id"], *(entry.number // RUN * RUN for entry in entries[:1])])
            self._runs.delete_many({"_id": {"$lt": oldest}, "at": {"$lt": earliest}})

    def _begin(self, begun: int) -> None:
        self._begun = begun
        run = {"_id": Int64(begun), "last": Int64(begun), "floor": Int64(0), "at": _date(time())}
        self._runs.insert_one(run)

    def add(self, entries: Sequence[Stored], run: Run) -> None:
        """Add entries, and take note of how far the run is."""
        documents = [_document(entry) for entry in entries]
        if not documents:
            with _within(CALL_SECONDS):
                self._note(run)
            return
        with _within(CALL_SECONDS):
            try:
                self._entries.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                self._look_at(error, entries)
            except DocumentTooLarge as error:
                largest = max(entries, key=lambda entry: entry.size)
                raise Unstorable(largest.number, str(error)) from error
            self._note(run)

    def _look_at(self, error: BulkWriteError, entries: Sequence[Stored]) -> None:
        """Pass over that entries are there already: the answer was lost the last time."""
        errors = [found for found in error.details.get("writeErrors", ()) if found["code"] != _DUPLICATE]
        for found in errors:
            if found["code"] == _TOO_LARGE:
                raise Unstorable(entries[found["index"]].number, str(found["errmsg"])) from error
        if errors or error.details.get("writeConcernErrors"):
            raise error

    def _note(self, run: Run) -> None:
        furthest = {"last": Int64(run.last), "floor": Int64(run.floor)}
        self._runs.update_one({"_id": self._begun}, {"$max": furthest, "$set": {"at": _date(time())}})

    def trim(self, after: int, first: int) -> None:
        """Drop what the entries in between hold, but for their rooms; the oldest of many altogether."""
        with _within(CALL_SECONDS):
            self._entries.update_many(
                {"_id": {"$gt": after, "$lt": first}},
                {"$unset": {"said": "", "mark": "", "binaries": ""}},
            )
            self._entries.delete_many({"_id": {"$lt": first - TRIMMED_ENTRIES, "$gt": self._begun}})

    def beat(self) -> None:
        """Take note that the process lives."""
        with _within(CALL_SECONDS):
            self._runs.update_one({"_id": self._begun}, {"$set": {"at": _date(time())}})

    def save(self, records: Mapping[str, Record | None], sessions: Collection[str]) -> None:
        """Write records, delete those that are None, then all of these sessions."""
        documents = {key: _record(record) for key, record in records.items() if record is not None}
        # Of a client in tens of thousands of rooms nothing is better than what is out of date.
        kept = {key: document for key, document in documents.items() if len(document["said"]) <= MAX_RECORD_LENGTH}
        gone = list(records.keys() - kept.keys())
        writes: list[ReplaceOne[Document] | DeleteMany] = [
            ReplaceOne({"_id": key}, document, upsert=True) for key, document in kept.items()
        ]
        if gone:
            writes.append(DeleteMany({"_id": {"$in": gone}}))
        if sessions:
            writes.append(DeleteMany({"session": {"$in": [key_of(found) for found in sessions]}}))
        with _within(CALL_SECONDS):
            if writes:
                self._records.bulk_write(writes)

    def record(self, pid: str, key: str) -> Record | None:
        """Return the record of a client that lost its connection."""
        with _within(CALL_SECONDS):
            found = self._records.find_one({"_id": key})
        # Without a time it is one of this run's, which knows better.
        at = found["at"].timestamp() if found is not None and "at" in found else None
        if found is None or at is None or time() - at > self._seconds:
            return None
        ended = at
        return _read(found, lambda document: unpack_record(pid, ended, _packed(document)))

    def probe(self, seconds: float) -> list[str] | None:
        """Write something and read it; return the indexes that are missing, None where no history has begun here."""
        with _within(seconds):
            self._meta.replace_one({"_id": _PROBE}, {"at": _date(time())}, upsert=True)
            self._meta.delete_one({"_id": _PROBE})
            if self._meta.find_one({"_id": "history"}) is None:
                return None
            wanted = ((self._entries, "at"), (self._records, "at"), (self._records, "session"))
            return [f"{each.name}.{name}" for each, name in wanted if name not in each.index_information()]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _read(document: Document, unpack: Callable[[Document], T]) -> T:
    try:
        return unpack(document)
    # Somebody else's, or another version's.
    except (KeyError, TypeError, ValueError) as error:
        raise StoreUnavailable(f"a document that is none of this service: {error!r}") from error


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    try:
        with pymongo.timeout(seconds):
            yield
    except BulkWriteError as error:
        # Its text repeats the documents.
        errors = [*error.details.get("writeErrors", ()), *error.details.get("writeConcernErrors", ())]
        raise StoreUnavailable("; ".join(str(found.get("errmsg")) for found in errors[:3])) from error
    except (PyMongoError, BSONError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


def _date(at: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=at)


def _said(packed: Packed) -> Document:
    beside = {"mark": packed.mark, "binaries": [Binary(found) for found in packed.binaries]} if packed.mark else {}
    return {"said": packed.text, **beside}


def _packed(document: Document) -> Packed:
    return Packed(document["said"], document.get("mark", ""), document.get("binaries", ()))


def _document(entry: Stored) -> Document:
    try:
        packed = pack_entry(entry)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unstorable(entry.number, str(error)) from error
    # The keys of rooms as text in ASCII, as all that others have chosen.
    rooms = json.dumps(entry.rooms)
    return {
        "_id": Int64(entry.number), "at": _date(entry.at), "rooms": rooms, "size": entry.size,
        **_said(packed),
    }  # fmt: skip


def _run(document: Document) -> Run:
    return Run(int(document["_id"]), int(document["last"]), int(document["floor"]))


def _entry(document: Document) -> Stored:
    packed = _packed(document) if "said" in document else None
    at = document["at"].timestamp()
    return unpack_entry(int(document["_id"]), at, json.loads(document["rooms"]), document["size"], packed)


def _record(record: Record) -> Document:
    session = {"session": key_of(record.session_id)} if record.session_id is not None else {}
    ended = {} if record.live else {"at": _date(time_of(record.at))}
    return {**session, **ended, **_said(pack_record(record))}
