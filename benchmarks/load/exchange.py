"""A 3D Repo backend that publishes at a fixed rate."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.load.audience import LoadError

EVENT = "containerSettingsUpdate"


@dataclass(frozen=True)
class Said:
    """What a backend says to the exchange: so many messages, to the places in turn, one every `interval_ns`."""

    url: str
    exchange: str
    places: Sequence[Mapping[str, str]]
    messages: int
    interval_ns: int
    fill: int


def publish(said: Said) -> int:
    """Publish; return when the first message was due, in ns of CLOCK_MONOTONIC. Each carries when it was due itself."""
    import amqp
    from kombu import Connection

    bodies = [_body(place, said.fill) for place in said.places]
    with Connection(said.url, connect_timeout=5) as connection, connection.channel() as channel:
        # The exchange has to have its consumers.
        channel.exchange_declare(said.exchange, type="fanout", durable=True, auto_delete=False, passive=True)
        started = due = time.monotonic_ns()
        for number in range(said.messages):
            due = started + number * said.interval_ns
            if (left := due - time.monotonic_ns()) > 0:
                time.sleep(left / 1e9)
            head, tail = bodies[number % len(bodies)]
            message = amqp.Message(head + b"%019d" % due + tail, delivery_mode=2)
            channel.basic_publish(message, said.exchange, "")
        if time.monotonic_ns() - due > 1e9:
            raise LoadError("the backend could not publish so fast")
    return started


def _body(place: Mapping[str, str], fill: int) -> tuple[bytes, bytes]:
    """Return a message to one model's room, before and behind the time in it."""
    mark = "@"
    data = {"at": mark, "fill": "x" * fill}
    recipient = "::".join(place[name] for name in ("teamspace", "project", "model"))
    message = {"event": EVENT, "data": {"data": data, **place}, "recipients": [recipient]}
    head, _, tail = json.dumps(message, separators=(",", ":")).partition(mark)
    return head.encode(), tail.encode()
