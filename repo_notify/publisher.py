"""Event -> deliveries -> connections, in this process and, through the message queue, in the others."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any

from .bus import Bus
from .catalogue import LOGGED_OUT, Delivery, merged, v5_deliveries
from .connections import Connections
from .events import EVENT_TYPES, Event, ModelCreated, ModelRemoved, SessionsEnded
from .identity import Identities, Identity, Outcome
from .metrics import Metrics
from .payload import pack, unpack
from .permissions import Permissions
from .schemas import checked

logger = logging.getLogger(__name__)

Deliveries = Callable[[Event], list[Delivery]]


def event_message(event: Event, named_by: str | None = None) -> dict[str, Any]:
    """Return a checked event as a message for the queue; `named_by` as in `Publisher.send`."""
    message = {"what": "event", "type": type(event).__name__, **pack(vars(event))}
    return message if named_by is None else {**message, "named_by": named_by}


class Publisher:
    """Delivers what is published, binds sockets and ends sessions, in every process of one app."""

    def __init__(
        self,
        connections: Connections,
        identities: Identities,
        permissions: Permissions,
        metrics: Metrics,
        *,
        deliveries: tuple[Deliveries, ...] = (v5_deliveries,),
        bus: Bus | None = None,
    ) -> None:
        self._connections = connections
        self._identities = identities
        self._permissions = permissions
        self._metrics = metrics
        self._deliveries = deliveries
        self._bus = bus

    def publish(self, event: Event, *, emitter: str | None = None, named_by: str | None = None) -> None:
        """Deliver an event everywhere but to its emitter, by default the one given here, which `named_by` has named.

        Raises `InvalidEvent`, or `TypeError` when it is none.
        """
        plain = checked(event)
        if plain.emitter is None and emitter:
            self.send(dataclasses.replace(plain, emitter=emitter), named_by)
        else:
            self.send(plain)

    def send(self, event: Event, named_by: str | None = None) -> None:
        """As `publish`, for an event that was checked and holds plain values.

        `named_by` is the user whose request named the emitter, `""` for nobody: then it counts only where that socket
        is the user's or nobody's. It is None where the emitter is believed.
        """
        self._metrics.published(type(event).__name__)
        if self._bus is not None:
            self._bus.send(event_message(event, named_by))
        self._deliver(event, named_by)

    def bind(self, socket_id: str, identity: Identity) -> None:
        """Bind the socket that a REST request named, in whichever process it is."""
        if self._bind(socket_id, identity) == "unknown" and self._bus is not None:
            self._bus.send({"what": "bind", "socket": socket_id, **dataclasses.asdict(identity)})

    def receive(self, message: dict[str, Any]) -> None:
        """Carry out a message of another process."""
        if message["what"] == "bind":
            self._bind(message["socket"], Identity(message["username"], message["session_id"]))
        else:
            self._deliver(EVENT_TYPES[message["type"]](**unpack(message)), message.get("named_by"))

    def _bind(self, socket_id: str, identity: Identity) -> Outcome:
        connection = self._connections.resolve(socket_id)
        outcome: Outcome = "unknown" if connection is None else self._identities.bind(connection, identity)
        self._metrics.bound(outcome)
        return outcome

    def _deliver(self, event: Event, named_by: str | None) -> None:
        started = perf_counter()
        if isinstance(event, SessionsEnded):
            self._end(event)
        else:
            self._fan_out(event, named_by)
        self._metrics.latency.observe(perf_counter() - started)

    def _end(self, event: SessionsEnded) -> None:
        for connection in self._identities.end(event.session_ids):
            self._connections.leave_all(connection)
            self._connections.tell(connection, LOGGED_OUT, {"reason": event.reason})

    def _emitter(self, event: Event, named_by: str | None) -> str | None:
        """Return the connection that does not hear of the event.

        Only the process that has the socket knows whose it is, so that this is looked at here and not by the publisher.
        """
        found = self._connections.resolve(event.emitter) if event.emitter is not None else None
        if found is None or named_by is None:
            return found
        identity = self._identities.known(found)
        return found if identity is None or identity.username == named_by else None

    def _fan_out(self, event: Event, named_by: str | None) -> None:
        if isinstance(event, ModelCreated | ModelRemoved):
            self._permissions.forget(event.teamspace)
        skip = self._emitter(event, named_by)
        for delivery in merged([found for deliveries in self._deliveries for found in deliveries(event)]):
            try:
                number = self._connections.deliver(delivery.name, delivery.payload, delivery.rooms, skip=skip)
            # One delivery that fails must not cost the caller's view an answer, nor the others their event.
            except Exception:
                logger.exception("an event of type %s could not be delivered", type(event).__name__)
            else:
                self._metrics.deliveries.inc(number)
