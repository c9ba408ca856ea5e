"""Prometheus metrics of one app; no user names in labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Fan-out is a matter of microseconds to some milliseconds; a publication through the queue of some tens.
_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

# More messages or bytes than may wait, and what the broker does not take.
QUEUE_DROP_REASONS = ("backlog_messages", "backlog_bytes", "refused")

REVALIDATION_CAUSES = ("change", "host", "sweep")
REVALIDATION_OUTCOMES = ("kept", "evicted", "farewell", "unknown")

Samples = Mapping[tuple[str, ...], float]


class Metrics:
    """What an operator sees at `GET /notify/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._joins = Counter(
            "repo_notify_joins",
            "Joins and leaves by action and outcome.",
            ["action", "outcome"],
            registry=self.registry,
        )
        self._revalidations = Counter(
            "repo_notify_revalidations",
            "Members whose right was asked for again, by what named them and by outcome.",
            ["cause", "outcome"],
            registry=self.registry,
        )
        self.revocation = Histogram(
            "repo_notify_revocation_seconds",
            "From hearing that a right may have ended to a member's leaving, in seconds.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._evictions = Counter(
            "repo_notify_evictions",
            "Members taken out of a room because their right ended, by what named them.",
            ["cause"],
            registry=self.registry,
        )
        for cause in REVALIDATION_CAUSES:
            self._evictions.labels(cause)
            for outcome in REVALIDATION_OUTCOMES:
                self._revalidations.labels(cause, outcome)
        self._published = Counter("repo_notify_events_published", "Events by type.", ["type"], registry=self.registry)
        # labels() looks for a counter anew each time.
        self._counters: dict[tuple[Counter | str, ...], Counter] = {}
        self.deliveries = Counter("repo_notify_deliveries", "Events handed to connections.", registry=self.registry)
        self.latency = Histogram(
            "repo_notify_publish_seconds",
            "From publishing an event to having handed it to every connection of this process, in seconds.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._bindings = Counter(
            "repo_notify_bindings",
            "Sockets named by a request's x-socket-id, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self._sessions_ended = Counter(
            "repo_notify_sessions_ended",
            "Connections whose session ended, by who said so.",
            ["cause"],
            registry=self.registry,
        )
        for cause in ("published", "store"):
            self._sessions_ended.labels(cause)
        self.change_stream_changes = self._counter("change_stream_changes", "Writes to access lists heard of.")
        self.change_stream_restarts = self._counter("change_stream_restarts", "Ends of the change stream.")
        self.change_stream_losses = self._counter(
            "change_stream_losses", "Times that changes were missed, so that everybody was asked for again."
        )
        self.permission_errors = self._counter(
            "permission_errors", "Access lists that could not be read, or not in time."
        )
        self.session_errors = self._counter(
            "session_errors", "Sessions of handshakes that could not be read, or not in time."
        )
        self.queue_errors = self._counter("queue_errors", "Failures of the message queue.")
        self.queue_holes = self._counter("queue_holes", "Messages of other processes that did not arrive.")
        self.queue_repeats = self._counter("queue_repeats", "Messages that arrived again and were dropped.")
        self.queue_ignored = self._counter("queue_ignored", "Messages of the queue that were not understood.")
        self._queue_dropped = Counter(
            "repo_notify_queue_dropped",
            "Messages for other processes that were given up, by reason.",
            ["reason"],
            registry=self.registry,
        )
        for reason in QUEUE_DROP_REASONS:
            self._queue_dropped.labels(reason)

    def joined(self, action: str, outcome: str) -> None:
        """Count a join or leave."""
        self._count(self._joins, action, outcome)

    def revalidated(self, cause: str, outcome: str) -> None:
        """Count a member whose right was asked for again."""
        self._count(self._revalidations, cause, outcome)

    def evicted(self, cause: str, seconds: float) -> None:
        """Count a member taken out of a room so many seconds after its right was heard to have ended."""
        self._count(self._evictions, cause)
        if cause != "sweep":
            self.revocation.observe(seconds)

    def sessions_ended(self, cause: str, number: int) -> None:
        """Count connections whose session ended."""
        self._sessions_ended.labels(cause).inc(number)

    def published(self, event_type: str) -> None:
        """Count an event."""
        self._count(self._published, event_type)

    def bound(self, outcome: str) -> None:
        """Count a socket that a request named."""
        self._count(self._bindings, outcome)

    def queue_dropped(self, reason: str) -> None:
        """Count a message for the other processes that was given up."""
        self._count(self._queue_dropped, reason)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"repo_notify_{name}", text, registry=self.registry)

    def _count(self, family: Counter, *labels: str) -> None:
        key: tuple[Counter | str, ...] = (family, *labels)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = family.labels(*labels)
        counter.inc()

    def watch(self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Samples]) -> None:
        """Add a gauge that is read when somebody asks: `read()` gives values by label values."""
        self.registry.register(_Watched(name, text, labels, read))

    def text(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry)


class _Watched(Collector):
    def __init__(self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Samples]) -> None:
        self._name, self._text, self._labels, self._read = name, text, labels, read

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for values, number in self._read().items():
            family.add_metric(values, number)
        return [family]
