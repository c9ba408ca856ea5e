"""Where the history is kept, as the settings have it: in memory, or in a store too, which is opened when one serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from repo_notify.access.store import connect
from repo_notify.delivery import messages
from repo_notify.delivery.broker import require_redis
from repo_notify.delivery.history.history import History
from repo_notify.delivery.history.log import Bounds
from repo_notify.delivery.history.mongodb import MongoHistory
from repo_notify.delivery.history.record_writer import RecordWriter
from repo_notify.delivery.history.records import Record, Records
from repo_notify.delivery.history.redis import Service
from repo_notify.delivery.history.redis_records import RedisRecords
from repo_notify.delivery.history.redis_stream import RedisStream
from repo_notify.delivery.history.shared import SharedHistory
from repo_notify.delivery.history.shared_records import SharedRecords
from repo_notify.delivery.history.store import StoreUnavailable
from repo_notify.delivery.history.stored_records import StoredRecords
from repo_notify.delivery.history.writer import Writer
from repo_notify.delivery.inlet import Inlet
from repo_notify.delivery.stream import Receiver, Stream
from repo_notify.metrics import Metrics
from repo_notify.setting_values import HISTORY_MONGODB, HISTORY_OFF
from repo_notify.settings import Settings
from repo_notify.sockets import Prepared, Sockets

logger = logging.getLogger(__name__)

# How long a process that begins to serve waits for the store, and how long between two tries.
OPEN_SECONDS, PAUSE_SECONDS = 10.0, 0.2

Expired = Callable[[Record], None]


class Keeping:
    """The history of one app in memory: nothing of it outlives the process, nor is known to another."""

    history: History | None
    writer: RecordWriter | None = None
    stream: Stream | None = None
    inlet: Inlet | None = None

    def __init__(self, history: History | None) -> None:
        self.history = history

    def connect(self, receiver: Receiver) -> None:
        """Have what other processes published, and what is lost, told to `receiver`."""

    def records(self, seconds: float, expired: Expired) -> Records:
        """Return where the records of lost connections are kept."""
        return Records(seconds, expired)

    def open(self) -> None:
        """Go on with what the store has, before anybody is served."""

    def reach(self, position: object) -> None:
        """Wait, for a moment, for what somebody with that position knows of already."""

    @property
    def waiting(self) -> int:
        """How much of what was published the store does not have yet."""
        return 0

    def problem(self) -> str | None:
        """Return what is wrong with the store, or None."""
        return None

    def flush(self, seconds: float) -> None:
        """Have what waits written, for so many seconds at most; nothing is written in the background any more."""

    def close(self) -> None:
        """Close the store's connections."""


class KeepingInMongo(Keeping):
    """The history of one app of one process, which goes on after a restart. Nothing is asked before `open`."""

    def __init__(self, history: History, store: MongoHistory, sockets: Sockets) -> None:
        super().__init__(history)
        self._history, self._store, self._sockets = history, store, sockets
        self._writer = self.writer = Writer(store, history)

    def records(self, seconds: float, expired: Expired) -> Records:
        """Return where the records of lost connections are kept."""
        return StoredRecords(seconds, expired, writer=self._writer)

    def open(self) -> None:
        """Go on with what the store has; where it does not answer, begin anew."""
        deadline = monotonic() + OPEN_SECONDS
        while True:
            try:
                found = self._store.resume(self._history.name)
            except StoreUnavailable as error:
                if monotonic() < deadline:
                    threading.Event().wait(PAUSE_SECONDS)
                    continue
                logger.error(
                    "the history's store cannot be read: a new history begins, and clients that were connected before "
                    "are told of a gap: %s",
                    error,
                )
                with self._sockets.order:
                    self._history.begin(self._writer, anew=True)
                return
            with self._sockets.order:
                self._history.resume(found, self._prepare, self._writer)
            return

    def _prepare(self, name: str, payload: Any) -> Prepared:
        return self._sockets.prepare(name, self._sockets.content(payload))

    @property
    def waiting(self) -> int:
        """How much of what was published the store does not have yet."""
        return self._writer.waiting

    def problem(self) -> str | None:
        """Return what is wrong with the store, or None."""
        return self._writer.problem()

    def flush(self, seconds: float) -> None:
        """Have what waits written."""
        self._writer.close(seconds)

    def close(self) -> None:
        """Close the store's connections."""
        self._store.close()


class KeepingInRedis(Keeping):
    """The history that all processes of a service share."""

    def __init__(self, history: SharedHistory, service: Service, sockets: Sockets, metrics: Metrics) -> None:
        super().__init__(history)
        self._history, self._service, self._sockets, self._metrics = history, service, sockets, metrics
        self._redis = RedisRecords(service, history.process)
        self._writer = self.writer = RecordWriter(self._redis)

    def connect(self, receiver: Receiver) -> None:
        """Have what other processes published, and what is lost, told to `receiver`."""
        redis, order = RedisStream(self._service), self._sockets.order
        self.stream = Stream(redis, self._history, receiver, self._metrics, order)
        self.inlet = Inlet(self.stream, redis)

    def records(self, seconds: float, expired: Expired) -> Records:
        """Return where the records of lost connections are kept."""
        return SharedRecords(seconds, expired, writer=self._writer, redis=self._redis, tell=self._tell)

    def _tell(self, taken: Mapping[str, Any]) -> None:
        assert self.stream is not None, "connect() comes first"
        self.stream.send(messages.TAKEN, messages.dump(taken))

    def open(self) -> None:
        """Read what the stream has, and follow it from there on."""
        assert self.stream is not None, "connect() comes first"
        self._writer.begin()
        self.stream.open()

    def reach(self, position: object) -> None:
        """Wait, for a moment, for what somebody with that position knows of already."""
        message = self._history.message_of(position)
        if message is not None and self.stream is not None:
            self.stream.reach(message)

    @property
    def waiting(self) -> int:
        """How much of what was published the store does not have yet."""
        return self.stream.waiting if self.stream is not None else 0

    def problem(self) -> str | None:
        """Return what is wrong with the store, or None."""
        return (self.stream.problem() if self.stream is not None else None) or self._writer.problem()

    def flush(self, seconds: float) -> None:
        """Have what waits written."""
        if self.stream is not None:
            self.stream.close(seconds)
        self._writer.close(seconds)

    def close(self) -> None:
        """Close the store's connections."""
        self._redis.close()


def make_keeping(settings: Settings, sockets: Sockets, metrics: Metrics) -> Keeping:
    """Return where the history is kept."""
    if settings.history == HISTORY_OFF or not sockets.keeps:
        return Keeping(None)
    seconds = settings.history_seconds
    bounds = Bounds(seconds, settings.history_events, settings.history_bytes)
    if settings.shares_history:
        require_redis()
        service = Service(settings.history, settings.message_queue_channel, seconds=seconds)
        return KeepingInRedis(SharedHistory(bounds), service, sockets, metrics)
    history = History(bounds)
    if settings.history == HISTORY_MONGODB:
        client = connect(settings.mongo_uri, timeout=settings.permission_timeout, appname="repo_notify history")
        return KeepingInMongo(history, MongoHistory(client, settings.history_database, seconds=seconds), sockets)
    return Keeping(history)
