"""What happens to access lists in MongoDB, as it happens: one change stream for each process (spec section 10)."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pymongo import MongoClient
from pymongo.change_stream import ChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from repo_notify.logs import Outage
from repo_notify.metrics import Metrics
from repo_notify.protocol.ids import is_teamspace

from .store import Document, uuid_of

logger = logging.getLogger(__name__)

COLLECTIONS = ("settings", "projects", "teamspace")
# How long the server waits for a change before it answers that there was none.
AWAIT_MILLISECONDS = 1_000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0
# A replica set may be made, and a right granted, while the service runs.
REFUSED_PAUSE_SECONDS = 60.0

# An insert takes nothing away.
_OF_A_COLLECTION = ("update", "replace", "delete", "drop", "rename")
# Matched by the server, so that the writes to all other collections of a busy cluster do not travel. `_id` is the
# token, which a projection must keep.
PIPELINE = (
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": list(_OF_A_COLLECTION)}, "ns.coll": {"$in": list(COLLECTIONS)}},
                {"operationType": "dropDatabase"},
            ]
        }
    },
    {"$project": {"operationType": 1, "ns": 1, "documentKey": 1}},
)
# What the server says of an error after which the same token works again, such as an election.
_RESUMABLE = "ResumableChangeStreamError"
# Unauthorized; IllegalOperation, CommandNotFound, CommandNotSupported and the stage's own errors: no replica set.
_REFUSED = frozenset({13, 20, 59, 115, 303, 40324, 40573})


class Change(NamedTuple):
    """What a write may have taken rights in: a teamspace, narrowed to a project or a model where the write was.

    `project` is the stored id as text.
    """

    teamspace: str
    project: str | None = None
    model: str | None = None


def change_of(document: Mapping[str, Any]) -> Change | None:
    """Return what a change stream's document is about, or None where that is no teamspace."""
    place = document.get("ns") or {}
    teamspace, collection = place.get("db"), place.get("coll")
    if not isinstance(teamspace, str) or not is_teamspace(teamspace):
        return None
    key = (document.get("documentKey") or {}).get("_id")
    if collection == "settings" and isinstance(key, str):
        return Change(teamspace, model=key)
    if collection == "projects" and key is not None:
        return Change(teamspace, project=str(uuid_of(key) or key))
    return Change(teamspace)


class Changes:
    """Watches the cluster's access lists: `changed(change)` for each write, `doubted()` where some may be missed.

    `client` makes the MongoClient of the stream alone: a getMore that waits must not keep others from a connection.
    """

    def __init__(
        self,
        client: Callable[[], MongoClient[Document]],
        metrics: Metrics,
        *,
        needed: Callable[[], bool],
        changed: Callable[[Change], None],
        doubted: Callable[[], None],
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._needed = needed
        self._changed = changed
        self._doubted = doubted
        self._closing = threading.Event()
        self._random = random.Random()  # noqa: S311 - spreads the processes, keeps no secret
        self._token: Mapping[str, Any] | None = None
        self._problem: str | None = "changes are not watched yet"
        self._outage = Outage(logger, "changes of rights in MongoDB are seen as they happen again")
        metrics.change_stream_up.watch(lambda: {(): float(self._problem is None)})

    def problem(self) -> str | None:
        """Return why changes are not seen as they happen, or None."""
        return self._problem

    def close(self) -> None:
        """End, within the time that the server waits for a change."""
        self._closing.set()

    def run(self) -> None:
        """Watch until `close`; not at all where the host decides about rights itself."""
        if not self._needed():
            return
        pause = FIRST_PAUSE_SECONDS
        with self._client() as client:
            while not self._closing.is_set():
                try:
                    with self._open(client) as stream:
                        pause = FIRST_PAUSE_SECONDS
                        self._drain(stream)
                except PyMongoError as error:
                    pause = self._failed(error, pause)
                # A document that cannot be understood must not be the end of what all others say.
                except Exception:
                    logger.exception("a change of rights could not be read; everybody's is asked for anew")
                    self._token = None

    def _open(self, client: MongoClient[Document]) -> ChangeStream[Document]:
        stream = client.watch(list(PIPELINE), resume_after=self._token, max_await_time_ms=AWAIT_MILLISECONDS)
        if self._token is None:
            # What was written before cannot be known.
            self._doubted()
        self._problem = None
        self._outage.ended()
        return stream

    def _drain(self, stream: ChangeStream[Document]) -> None:
        while not self._closing.is_set():
            document = stream.try_next()
            # Also after an empty answer: the server has gone on, and its log forgets what is behind.
            self._token = stream.resume_token
            change = change_of(document) if document is not None else None
            if change is not None:
                self._changed(change)
                self._metrics.change_stream_changes.inc()

    def _failed(self, error: PyMongoError, pause: float) -> float:
        """Wait, and return how long to wait the next time."""
        if self._closing.is_set():
            return pause
        refused = isinstance(error, OperationFailure) and error.code in _REFUSED
        if self._token is not None and not refused and _has_lost(error):
            self._metrics.change_stream_losses.inc()
            self._token = None
        self._metrics.change_stream_restarts.inc()
        reason = (
            f"MongoDB refuses change streams ({error}); a replica set is needed, and `find` and `changeStream` on all "
            "databases"
            if refused
            else f"the change stream broke off ({type(error).__name__})"
        )
        self._problem = reason
        self._outage.began("%s; until it works a right that ends is seen by the sweep alone", reason)
        wait = REFUSED_PAUSE_SECONDS if refused else pause
        self._closing.wait(wait * self._random.uniform(0.5, 1.0))
        return min(pause * 2, LONGEST_PAUSE_SECONDS)


def _has_lost(error: PyMongoError) -> bool:
    """Return whether the server will not go on from the token: its log is shorter by now, or it knows it no more."""
    return isinstance(error, OperationFailure) and not error.has_error_label(_RESUMABLE)
