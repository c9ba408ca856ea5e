"""The parts that stand in the place of a 3D Repo backend's chat service, put together for one app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from repo_notify.delivery.inlet import Inlet
from repo_notify.delivery.publisher import Publisher
from repo_notify.metrics import Metrics
from repo_notify.sessions.bindings import Identities
from repo_notify.sessions.express import ExpressSessions
from repo_notify.settings import Settings
from repo_notify.sockets import Sockets

from .bridge import Bridge, Events
from .exchange import Exchange, Queue
from .sessions import SessionMessages
from .takers import AtOnce, IntoStream

# For so long after the last process has ended the queue that they share keeps what is published, in milliseconds. No
# setting: a queue that is there cannot be declared otherwise.
SHARED_QUEUE_EXPIRES = 600_000


@dataclass(frozen=True)
class Backend:
    """What one app has of a 3D Repo backend: its exchange, by one queue or two, and what is made of its messages."""

    exchanges: tuple[Exchange, ...]
    sessions: SessionMessages
    bridge: Bridge

    def start(self, wait: float = 0.0) -> None:
        """Begin in this process, unless that was done; wait up to `wait` seconds for the outcome of the first try."""
        deadline = monotonic() + wait
        for exchange in self.exchanges:
            exchange.start()
        for exchange in self.exchanges:
            exchange.start(max(0.0, deadline - monotonic()))

    def problem(self) -> str | None:
        """Return why the exchange is not consumed right now, or None."""
        return next(filter(None, [exchange.problem() for exchange in self.exchanges]), None)

    def summary(self) -> str:
        """Return, in half a sentence, for how long the exchange has been consumed, and what was heard of it."""
        counts = self.bridge.counts()
        heard = f"{counts['rooms']:,} events and {sum(counts.values()) - counts['rooms']:,} messages of sessions here"
        problem = self.problem()
        if problem is not None:
            return f"{problem}; {heard}"
        return f"consumed for {min(exchange.seconds for exchange in self.exchanges):.0f} s; {heard}"

    def close(self) -> None:
        """End the background work."""
        for exchange in self.exchanges:
            exchange.close()


def shared_queue(settings: Settings) -> Queue:
    """Return the queue at which the processes of a service take turns."""
    return Queue(
        f"{settings.message_queue_channel}.{settings.backend_exchange}",
        exclusive=False,
        auto_delete=False,
        durable=True,
        arguments={"x-single-active-consumer": True, "x-expires": SHARED_QUEUE_EXPIRES},
    )


def make_backend(
    settings: Settings,
    server: Any,
    sockets: Sockets,
    identities: Identities,
    publisher: Publisher,
    metrics: Metrics,
    *,
    events: Events,
    inlet: Inlet | None,
    express: ExpressSessions | None,
    missed: Callable[[], None],
) -> Backend | None:
    """Return the parts, None where REPO_NOTIFY_BACKEND_QUEUE is not set; raises `SettingsError` without its libraries.

    Who is logged in is read from the `express` sessions; without them nobody is moved. `missed` as in `Exchange`. With
    an `inlet` one process at a time takes the events, and each what is said of sessions.
    """
    if settings.backend_queue is None:
        return None
    sessions = SessionMessages(
        sockets,
        identities,
        identity_of=express.identity if express is not None else lambda _: None,
        end=publisher.end_silently,
        spawn=server.start_background_task,
        sleep=server.sleep,
    )
    bridge = Bridge(events, sessions, metrics)
    consumed = partial(Exchange, settings.backend_queue, settings.backend_exchange, sleep=server.sleep)
    if inlet is None:
        own = AtOnce(bridge.receive, metrics)
        exchanges: tuple[Exchange, ...] = (consumed(lambda _: own, missed=missed),)
    else:
        # What is said of sessions and does not arrive is found in their store.
        own = AtOnce(bridge.receive_but_events, metrics)
        taker = partial(IntoStream, inlet=inlet, is_event=bridge.is_event)
        exchanges = (
            # It may be the one that finds the exchange gone, and makes it: the other one's queue was bound to nothing.
            consumed(lambda _: own, made=inlet.renewed),
            consumed(taker, queue=shared_queue(settings), missed=inlet.renewed),
        )
    backend = Backend(exchanges, sessions, bridge)
    metrics.backend_up.watch(lambda: {(): int(backend.problem() is None)})
    return backend
