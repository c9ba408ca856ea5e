"""What becomes of the deliveries of one subscription: carried out at once, or put into the stream and acknowledged."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple, Protocol

from repo_notify.delivery.history.store import StoreUnavailable
from repo_notify.delivery.inlet import Brought, Entry, Inlet
from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics

from .frames import QOS_OK, Delivery, Frame

logger = logging.getLogger(__name__)

# How often messages are acknowledged, and how often a stream that was away is tried again.
SETTLE_SECONDS, RETRY_SECONDS = 0.05, 0.5

Receive = Callable[[bytes], None]


class Taker(Protocol):
    """Takes the deliveries of one subscription."""

    @property
    def acknowledges(self) -> bool:
        """Whether the broker keeps a message until it is acknowledged."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to be settled."""

    def take(self, delivery: Delivery) -> None:
        """Take a message."""

    def hear(self, frame: Frame) -> None:
        """Take note of what the broker says beside deliveries."""

    def settle(self) -> bool:
        """Do what is left to do; return whether more may be taken."""


class AtOnce:
    """Carries each message out as it comes; the broker has forgotten it."""

    acknowledges, is_idle = False, True

    def __init__(self, receive: Receive, metrics: Metrics) -> None:
        self._receive, self._metrics = receive, metrics
        self._rarely = Rarely()

    def take(self, delivery: Delivery) -> None:
        """Carry a message out; one that fails must not cost the subscription."""
        if delivery.body is None:
            self._metrics.backend_passed_over.inc()
            if self._rarely("size"):
                logger.error("passed over a message of the backend of %s bytes", f"{delivery.size:,}")
            return
        try:
            self._receive(delivery.body)
        # As above.
        except Exception:
            self._metrics.backend_passed_over.inc()
            if self._rarely("failure"):
                logger.exception("a message of the backend could not be carried out")

    def hear(self, frame: Frame) -> None:
        """Nothing was asked."""

    def settle(self) -> bool:
        """Nothing is left."""
        return True


class _Unsettled(NamedTuple):
    """A message that is not acknowledged; `brought` is None where the stream need not have it."""

    tag: int
    brought: Brought | None


class IntoStream:
    """Puts events into the stream, and has the broker forget a message once the stream has it.

    `is_event(body)` says which; the others are somebody else's. While the stream is away, nothing more is taken.
    """

    acknowledges = True

    def __init__(self, channel: Any, inlet: Inlet, is_event: Callable[[bytes], bool]) -> None:
        self._channel, self._inlet, self._is_event = channel, inlet, is_event
        # Until the broker has answered since: then what arrived was still this connection's.
        self._entering: Entry | None = None
        self._entry: Entry | None = None
        self._arrived: deque[Delivery] = deque()
        self._unsettled: deque[_Unsettled] = deque()
        # What is acknowledged, but has its mark.
        self._acknowledged: list[Brought] = []
        self._next = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to be settled."""
        return not self._arrived and not self._unsettled and not self._acknowledged

    def take(self, delivery: Delivery) -> None:
        """Take a message, and bring it in unless others wait before it."""
        self._arrived.append(delivery)
        if self._entry is not None and len(self._arrived) == 1:
            self._bring(self._entry)

    def hear(self, frame: Frame) -> None:
        """Take note that the broker knows the connection, if that is what it says."""
        if frame.payload.startswith(QOS_OK):
            self._entry, self._entering = self._entering, None
            self._next = 0.0

    def settle(self) -> bool:
        """Bring in what waits, acknowledge what the stream has, and return whether more may be taken."""
        now = monotonic()
        if now >= self._next and not self.is_idle:
            self._next = now + SETTLE_SECONDS
            try:
                self._settle()
            except StoreUnavailable:
                # The stream itself tries again, and logs that it does.
                self._next = now + RETRY_SECONDS
        return not self._arrived or self._entering is not None

    def _settle(self) -> None:
        if self._entry is not None:
            self._bring(self._entry)
            self._acknowledge(self._entry)
        elif self._entering is None:
            # Not before the first message: whoever only waits for its turn must not be in the way.
            self._entering = self._inlet.enter()
            self._ask()

    def _ask(self) -> None:
        """Have the broker say that it knows the connection, as it does when no limit is asked for anew.

        A process that stood still finds messages that the broker has given to another one since, which may have entered
        before.
        """
        from amqp import spec

        self._channel.send_method(spec.Basic.Qos, "lBb", (0, 0, False))

    def _bring(self, entry: Entry) -> None:
        while self._arrived:
            delivery = self._arrived[0]
            brought = None
            if delivery.body is not None and self._is_event(delivery.body):
                brought = entry.bring(delivery.body, again=delivery.again)
                if brought is None:
                    return
            self._arrived.popleft()
            self._unsettled.append(_Unsettled(delivery.tag, brought))

    def _acknowledge(self, entry: Entry) -> None:
        settled = []
        for each in self._unsettled:
            if each.brought is not None and not entry.has(each.brought):
                break
            settled.append(each)
        if settled:
            if brought := [each.brought for each in settled if each.brought is not None]:
                entry.confirm()
            self._channel.basic_ack(settled[-1].tag, multiple=True)
            self._acknowledged += brought
            for _ in settled:
                self._unsettled.popleft()
        if self._acknowledged:
            entry.release(self._acknowledged, is_all=not self._arrived and not self._unsettled)
            self._acknowledged.clear()
