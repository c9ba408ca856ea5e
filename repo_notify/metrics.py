"""Prometheus metrics of one app, as one table: name, kind, help, labels. No user, id or address is a label.

docs/operating.md has the same table for people; `metrics_markdown` in `contract.markdown` writes it.
"""

from __future__ import annotations

import math
import os
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, count
from time import perf_counter
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

PREFIX = "repo_notify_"

# Fan-out is a matter of microseconds to some milliseconds; a publication through the queue of some tens.
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# A read of an access list takes a round trip or three, up to REPO_NOTIFY_PERMISSION_TIMEOUT.
_READ_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# So many observations wait to be put into buckets: putting them away takes some tens of microseconds.
MANY_OBSERVATIONS = 256

# More messages or bytes than may wait, and what the broker does not take.
QUEUE_DROP_REASONS = ("backlog_messages", "backlog_bytes", "refused")
HANDSHAKES = ("accepted", "origin", "protocol", "no_polling", "no_upgrade", "shutting_down", "bad_request")
SESSIONS = ("user", "none", "bad_signature", "expired", "store_error")
BINDINGS = ("bound", "refused", "unknown")
DISCONNECTS = (
    "client_disconnect", "server_disconnect", "ping_timeout", "transport_close", "transport_error", "slow_client",
    "other",
)  # fmt: skip
PUBLISH_STATUSES = ("202", "400", "401", "404", "413", "503")
RECOVERIES = ("recovered", "gap", "unknown")
_JOINS = ("success", "unauthorised", "room_not_found", "service_unavailable")

REVALIDATION_CAUSES = ("change", "host", "sweep")
_REVALIDATION_OUTCOMES = ("kept", "evicted", "farewell", "unknown")

Kind = Literal["counter", "gauge", "histogram"]
Samples = Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Row:
    """One metric. `start` are the series that are there before anything was counted; `when`: the condition it needs.

    One with `read` is asked for when somebody reads the metrics: its numbers are kept elsewhere.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    start: tuple[tuple[str, ...], ...]
    read: bool
    when: str
    buckets: tuple[float, ...]

    @property
    def full_name(self) -> str:
        """The name as it stands in the text; a counter's ends in `_total`."""
        return PREFIX + self.name + ("_total" if self.kind == "counter" else "")


def _row(
    name: str, kind: Kind, text: str, labels: tuple[str, ...] = (), start: Iterable[tuple[str, ...]] = (),
    *, read: bool = False, when: str = "", buckets: tuple[float, ...] = (),
) -> Any:  # fmt: skip
    return Row(name, kind, text, labels, tuple(start), read, when, buckets)


def _counter(name: str, text: str) -> Any:
    return _row(name, "counter", text)


def _counters(name: str, text: str, label: str, values: Iterable[str] = ()) -> Any:
    return _row(name, "counter", text, (label,), [(value,) for value in values])


def _histogram(name: str, text: str, buckets: tuple[float, ...]) -> Any:
    return _row(name, "histogram", text, buckets=buckets)


def _read(name: str, text: str, *labels: str, kind: Kind = "gauge", when: str = "") -> Any:
    return _row(name, kind, text, labels, read=True, when=when)


class Counts(Collector):
    """A counter with labels: called with their values it counts one.

    The numbers are counted in C and read when somebody asks, so that no lock is taken for each.
    """

    __slots__ = ("_row", "_series")

    def __init__(self, row: Row, registry: CollectorRegistry) -> None:
        self._row = row
        self._series: dict[tuple[str, ...], count[int]] = {}
        self.start(row.start)
        registry.register(self)

    def __call__(self, *labels: str) -> None:
        """Count one."""
        found = self._series.get(labels)
        if found is None:
            found = self._series.setdefault(labels, count())
        next(found)

    def start(self, series: Iterable[tuple[str, ...]]) -> None:
        """Show these series at zero: what has not happened yet can be told from what nobody counts."""
        for labels in series:
            self._series.setdefault(labels, count())

    def describe(self) -> Iterable[Metric]:
        """Return the metric without a number."""
        return [CounterMetricFamily(PREFIX + self._row.name, self._row.help, labels=self._row.labels)]

    def collect(self) -> Iterable[Metric]:
        """Return the metric with its numbers."""
        found: Any
        (found,) = self.describe()
        for labels, counted in list(self._series.items()):
            found.add_metric(labels, _next_of(counted))
        return [found]


def _next_of(counted: count[int]) -> int:
    """Return what a count would give next, without taking it: its text alone says that."""
    return int(repr(counted)[len("count(") : -1])


class Histogram(Collector):
    """Seconds by how many there were: observed without a lock, put into their buckets now and then."""

    def __init__(self, row: Row, registry: CollectorRegistry) -> None:
        self._row = row
        self._bounds = (*row.buckets, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._lock = threading.Lock()
        self._recent: deque[float] = deque()
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Take note of one."""
        self._recent.append(seconds)
        if len(self._recent) >= MANY_OBSERVATIONS:
            self._put_away()

    @contextmanager
    def time(self) -> Iterator[None]:
        """Take note of how long a block takes."""
        started = perf_counter()
        try:
            yield
        finally:
            self.observe(perf_counter() - started)

    def _put_away(self) -> None:
        recent = self._recent
        with self._lock:
            for _ in range(len(recent)):
                seconds = recent.popleft()
                self._counts[bisect_left(self._bounds, seconds)] += 1
                self._sum += seconds

    def describe(self) -> Iterable[Metric]:
        """Return the metric without a number."""
        return [HistogramMetricFamily(PREFIX + self._row.name, self._row.help)]

    def collect(self) -> Iterable[Metric]:
        """Return the metric with its numbers."""
        self._put_away()
        buckets = list(zip(map(floatToGoString, self._bounds), accumulate(self._counts), strict=True))
        return [HistogramMetricFamily(PREFIX + self._row.name, self._row.help, buckets=buckets, sum_value=self._sum)]


class Watched(Collector):
    """A metric whose numbers are kept elsewhere; it is there once `watch` was called."""

    def __init__(self, row: Row, registry: CollectorRegistry) -> None:
        self._row, self._registry = row, registry
        self._read: Callable[[], Samples] | None = None

    def watch(self, read: Callable[[], Samples]) -> None:
        """Have `read()` give the values by label values, whenever somebody asks."""
        self._read = read
        self._registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Return the metric without a number."""
        kind = CounterMetricFamily if self._row.kind == "counter" else GaugeMetricFamily
        return [kind(PREFIX + self._row.name, self._row.help, labels=self._row.labels)]

    def collect(self) -> Iterable[Metric]:
        """Return the metric with its numbers."""
        found: Any
        (found,) = self.describe()
        for values, number in self._read().items() if self._read is not None else ():
            found.add_metric(values, number)
        return [found]


def _make(row: Row, registry: CollectorRegistry) -> Any:
    if row.read:
        return Watched(row, registry)
    if row.kind == "histogram":
        return Histogram(row, registry)
    if row.labels:
        return Counts(row, registry)
    return Counter(PREFIX + row.name, row.help, registry=registry)


class Metrics:
    """What an operator sees at `GET /notify/metrics`: of the class the rows, of an instance its own numbers."""

    # Who connects.
    handshake: Counts = _counters(
        "handshakes",
        "Handshakes by outcome; origin: a page of another origin, protocol: an Engine.IO generation that is not "
        "served, no_polling: a poll where there is none, no_upgrade: a WebSocket's without Upgrade, as of a proxy that "
        "does not pass it on.",
        "outcome",
        HANDSHAKES,
    )
    stray: Counter = _counter(
        "unknown_connections",
        "Requests that name a connection which this process does not have: after a restart, or for lack of sticky "
        "sessions.",
    )
    session: Counts = _counters(
        "sessions",
        "Sessions of handshakes by outcome; expired: too old, or not in the session store.",
        "outcome",
        SESSIONS,
    )
    connections: Watched = _read("connections", "Open connections.", "generation", "transport")
    disconnected: Counts = _counters("disconnects", "Ends of connections by reason.", "reason", DISCONNECTS)
    bound: Counts = _counters(
        "bindings", "Sockets named by a request's x-socket-id, by outcome.", "outcome", BINDINGS
    )
    # Who may hear what.
    joined: Counts = _row(
        "joins",
        "counter",
        "Joins and leaves by action and outcome.",
        ("action", "outcome"),
        [*((action, outcome) for action in ("join", "leave") for outcome in _JOINS), ("other", "unknown_event")],
    )
    join_wait: Histogram = _histogram(
        "join_wait_seconds", "How long joins and leaves beyond the rate waited for their turn, in seconds.", _BUCKETS
    )
    rooms: Watched = _read("rooms", "Rooms with a member.")
    permission_seconds: Histogram = _histogram(
        "permission_seconds", "How long it took to read an access list from MongoDB, in seconds.", _READ_BUCKETS
    )
    permission_errors: Counter = _counter("permission_errors", "Access lists that could not be read, or not in time.")
    permission_cache: Watched = _read(
        "permission_cache", "Access lists asked for: hit, or miss, which reads MongoDB.", "outcome", kind="counter"
    )
    evictions: Counts = _counters(
        "evictions",
        "Members taken out of a room because their right ended, by what named them.",
        "cause",
        REVALIDATION_CAUSES,
    )
    revalidated: Counts = _row(
        "revalidations",
        "counter",
        "Members whose right was asked for again, by what named them and outcome; unknown: it could not be asked for.",
        ("cause", "outcome"),
        [(cause, outcome) for cause in REVALIDATION_CAUSES for outcome in _REVALIDATION_OUTCOMES],
    )
    revocation: Histogram = _histogram(
        "revocation_seconds", "From hearing that a right may have ended to a member's leaving, in seconds.", _BUCKETS
    )
    change_stream_up: Watched = _read(
        "change_stream_up", "Whether changes of rights are heard of from MongoDB as they happen: 1, else 0."
    )
    change_stream_changes: Counter = _counter("change_stream_changes", "Writes to access lists that were heard of.")
    change_stream_restarts: Counter = _counter("change_stream_restarts", "Ends of the change stream.")
    change_stream_losses: Counter = _counter(
        "change_stream_losses", "Times that changes were missed, so that everybody was asked for again."
    )
    session_end: Counts = _counters(
        "sessions_ended", "Connections whose session ended, by who said so.", "cause", ("published", "store", "backend")
    )
    recheck_age: Watched = _read(
        "recheck_age_seconds",
        "Seconds since a sweep over all members' rights last came to its end, or since the first connection.",
    )
    # What is published.
    publish_request: Counts = _counters(
        "publish_requests", "Requests to publish, over HTTP and Socket.IO alike, by status.", "status", PUBLISH_STATUSES
    )
    published: Counts = _counters("events_published", "Events published in this process by type.", "type")
    deliveries: Watched = _read("deliveries", "Events handed to connections.", kind="counter")
    latency: Histogram = _histogram(
        "publish_seconds",
        "From publishing an event to having handed it to every connection of this process, in seconds.",
        _BUCKETS,
    )
    # Who comes back.
    recovery: Counts = _counters(
        "recoveries",
        "Clients that came back with the secret of a lost connection, by outcome; gap: something that they missed is "
        "not to be had; unknown: nobody of that name, or somebody else.",
        "outcome",
        RECOVERIES,
    )
    joined_since: Counts = _counters(
        "joins_since", "Joins since a position, by outcome; gap: what was missed is not to be had.", "outcome",
        ("replayed", "gap"),
    )
    lost_clients: Watched = _read("lost_clients", "Clients that lost their connection and may still come back.")
    history_events: Watched = _read("history_events", "Deliveries that are kept for who was away.")
    history_bytes: Watched = _read("history_bytes", "What is kept for who was away, in bytes.")
    history_seconds: Watched = _read("history_seconds", "How old the oldest kept delivery is, in seconds.")
    history_holes: Watched = _read(
        "history_holes", "Times that something of another process did not arrive, so that clients were told of a gap.",
        kind="counter",
    )
    history_store_up: Watched = _read(
        "history_store_up",
        "Whether the history's store takes what is published: 1, else 0.",
        when="a history in a store",
    )
    history_waiting: Watched = _read(
        "history_waiting", "Deliveries that the history's store does not have yet.", when="a history in a store"
    )
    owed: Watched = _read(
        "deliveries_owed", "Published events times members that are to get them, members that are away included.",
        kind="counter",
    )
    outcomes: Watched = _read(
        "delivery_outcomes",
        "What became of those, together as many: sent, replayed, or dropped: slow and gone (never came back), gap (not "
        "to be had any more), superseded (a later update tells the same). What was sent in vain changes its outcome.",
        "outcome",
    )
    outbox_bytes: Watched = _read("outbox_bytes", "What waits for clients that have not taken it yet, in bytes.")
    slow_clients: Watched = _read(
        "slow_clients",
        "Clients disconnected because they did not take what was sent to them, by limit.",
        "limit",
        kind="counter",
    )
    # The other processes.
    queue_up: Watched = _read(
        "queue_up", "Whether the message queue works in both directions: 1, else 0.", when="a message queue"
    )
    queue_backlog_messages: Watched = _read(
        "queue_backlog_messages", "Messages that wait for the broker.", when="a message queue"
    )
    queue_backlog_bytes: Watched = _read(
        "queue_backlog_bytes", "Bytes that wait for the broker.", when="a message queue"
    )
    queue_errors: Counter = _counter("queue_errors", "Failed connections to the broker, given up ones included.")
    queue_dropped: Counts = _counters(
        "queue_dropped",
        "Messages for other processes that were given up, by reason.",
        "reason",
        QUEUE_DROP_REASONS,
    )
    queue_holes: Counter = _counter("queue_holes", "Messages of other processes that did not arrive.")
    queue_repeats: Counter = _counter("queue_repeats", "Messages that arrived again and were dropped.")
    queue_ignored: Counter = _counter(
        "queue_ignored", "Messages of the queue that were not understood, or could not be carried out."
    )
    # A 3D Repo backend.
    backend_up: Watched = _read(
        "backend_up", "Whether the 3D Repo backend's exchange is consumed: 1, else 0.", when="a backend's exchange"
    )
    backend_messages: Watched = _read(
        "backend_messages",
        "Messages of the 3D Repo backend by kind: events for rooms, events for sessions, logins, logouts.",
        "kind",
        kind="counter",
        when="a backend's exchange",
    )
    backend_passed_over: Counter = _counter(
        "backend_passed_over",
        "Messages of the 3D Repo backend's exchange that were not understood, too large, or could not be carried out.",
    )
    # The process.
    loop_lag: Watched = _read(
        "loop_lag_seconds",
        "How late the event loop was at most within the last half minute, in seconds; what it does then holds up all.",
        when="gevent",
    )
    build_info: Watched = _read("build_info", "Always 1; what is running.", "version", "python", "async_mode")
    worker_info: Watched = _read(
        "worker_info",
        "Always 1; shared: whether other workers answer on the same port, so that this is only a part of the whole.",
        "pid",
        "shared",
    )

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for name, row in _rows():
            setattr(self, name, _make(row, self.registry))
        self._shared = False
        self.worker_info.watch(lambda: {(str(os.getpid()), str(self._shared).lower()): 1})

    def text(self, *, shared: bool = False) -> bytes:
        """Return everything in Prometheus's text format; `shared`: other processes answer on the same port."""
        self._shared = shared
        return generate_latest(self.registry)


def _rows() -> Iterator[tuple[str, Row]]:
    return ((name, row) for name, row in vars(Metrics).items() if isinstance(row, Row))


METRICS: tuple[Row, ...] = tuple(row for _, row in _rows())
