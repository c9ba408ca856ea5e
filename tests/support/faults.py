"""What is published and heard while connections, processes and brokers fail, and whether anything was lost silently."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import requests
import websocket

from repo_notify import QueuePublisher, events
from repo_notify.errors import QueueUnavailable
from tests.support.audience import Place
from tests.support.restarting import Restarting
from tests.support.returning import Returning
from tests.support.served import SECONDS, Served

Json = Any
KEY = "a key for publishing"
# How long a publisher rests between two events.
PAUSE_SECONDS = 0.03
# Each so many-th event of a publisher is an update that the next one supersedes.
UPDATE_EVERY = 5
REPLIES = ("message", "error", "joined")


class Weather:
    """Whether the broker works; `changes` counts its ends and its returns, `outages` its ends."""

    def __init__(self) -> None:
        self.changes = 0

    @property
    def outages(self) -> int:
        return (self.changes + 1) // 2

    @property
    def is_calm(self) -> bool:
        return self.changes % 2 == 0

    def change(self) -> None:
        self.changes += 1


class Side(Restarting):
    """A process of the service, and whether it is up."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.name = name
        self.up = threading.Event()

    @property
    def is_up(self) -> bool:
        return self.up.is_set()

    def start(self) -> Served:
        served = super().start()
        self.up.set()
        return served

    def end(self, number: int) -> None:
        self.up.clear()
        super().end(number)

    def close(self) -> None:
        self.up.set()
        super().close()


@dataclass
class Published:
    """What is known of an event: whether its publisher was told that it is stored, and whether a broker was away."""

    is_update: bool
    stored: bool = False
    loose: bool = True


class Publisher(threading.Thread):
    """Publishes numbered events, one after another; `send(event)` returns whether it is stored.

    What does not keep its order `in_outages` is published by way of several processes.
    """

    def __init__(
        self, name: str, place: Place, weather: Weather, send: Callable[[Json], bool], *, in_outages: bool = True
    ) -> None:
        super().__init__(daemon=True)
        self.name = name
        self._place, self._weather, self._send = place, weather, send
        self.events: list[Published] = []
        self._in_outages = in_outages
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(PAUSE_SECONDS):
            number = len(self.events)
            event = Published(is_update=number % UPDATE_EVERY == 0)
            self.events.append(event)
            about = f"of {self.name}" if event.is_update else f"made {number}"
            data = {"_id": about, "by": self.name, "number": number}
            before = self._weather.changes
            document = {
                "type": "TicketUpdated" if event.is_update else "TicketCreated",
                **self._place.in_model,
                "kind": "container",
                "data": data,
            }
            event.stored = self._send(document)
            event.loose = before != self._weather.changes or not self._weather.is_calm

    def keeps_order(self, number: int) -> bool:
        return self._in_outages or not self.events[number].loose

    def end(self) -> None:
        self._end.set()
        self.join(SECONDS * 2)
        assert not self.is_alive()


def by_http(side: Side) -> Callable[[Json], bool]:
    """Return what publishes to a process, and waits for it where it does not run."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {KEY}"

    def send(event: Json) -> bool:
        side.up.wait(SECONDS)
        # It may be killed before it has answered.
        with suppress(requests.RequestException):
            return session.post(f"{side.url}/notify/events", json=[event], timeout=SECONDS).status_code == 202
        return False

    return send


def by_queue(publisher: QueuePublisher) -> Callable[[Json], bool]:
    """Return what publishes by the message queue, which does not say what is stored."""

    def send(event: Json) -> bool:
        type_ = {"TicketUpdated": events.TicketUpdated, "TicketCreated": events.TicketCreated}[event.pop("type")]
        with suppress(QueueUnavailable):
            publisher.publish(type_(**event))
        return False

    return send


def _reason(event: str, arguments: list[Json]) -> str | None:
    """Return why there is a gap, where an event tells of one."""
    is_gap = event == "message" and arguments[0]["event"] == "gap"
    return str(arguments[0]["data"]["reason"]) if is_gap else None


class Listener:
    """A client in the model's room, with all that it has heard: pairs of a publisher's name and a number."""

    def __init__(self, name: str, cookie: str, side: Side, place: Place, publishers: Iterable[Publisher]) -> None:
        self.name = name
        self.side = side
        self._lives = side.lives
        self.client = Returning(side.url, cookie)
        self.connected = False
        # What happened to it, for whoever has to find out why.
        self.story: list[str] = []
        self.heard: list[tuple[str, int]] = []
        # By publisher: what was published before it was told of a gap, or joined anew.
        self.forgiven: dict[str, int] = {}
        self.gaps = self.recoveries = self.moves = 0
        # What a broker's end, or a killed process, has made it forget.
        self.excused = False
        self._place, self._publishers = place, publishers
        self._settled = 0
        # How often it had changed its process when it heard that.
        self._moves_at: dict[tuple[str, int], int] = {}
        self.repeated: list[tuple[str, int, bool]] = []

    def changes_process(self, side: Side) -> bool:
        """Return whether a process is another one than that to which it was connected."""
        return side is not self.side or side.lives != self._lives

    def connect(self, side: Side) -> None:
        """Connect, or come back, to a process."""
        client = self.client
        self.moves += self.changes_process(side)
        self.side, client.url, self._lives = side, side.url, side.lives
        unsettled, client.heard[:] = client.heard[self._settled :], []
        self.story.append(f"comes with {client.offset}, behind which it heard {len(unsettled)}")
        self._settled = 0
        client.connect()
        self.connected = True
        self.story.append(f"{'back on' if client.recovered else 'new on'} {side.name}")
        if client.recovered:
            self.recoveries += 1
            # What else came behind its last position comes once more.
            client.heard[:0] = [each for each in unsettled if _reason(*each) is not None]
            return
        client.heard[:0] = unsettled
        assert client.emit("join", self._place.in_model)["event"] == "success"
        self._settled = len(client.heard)
        self._take(self._settled)
        self._gap("new")

    def drop(self) -> None:
        """Lose the link."""
        self.client.drop()
        self.story.append("dropped")
        self._lost()

    def gone(self) -> None:
        """Its process has ended."""
        with suppress(OSError, websocket.WebSocketException, AssertionError):
            while True:
                self._receive()
        with suppress(OSError):
            self.client.close()
        self.story.append("its process ended")
        self._lost()

    def listen(self) -> None:
        """Hear all that was sent until now."""
        client = self.client
        client.emit("leave", {"notifications": True})
        self._settled = len(client.heard)
        self._take(self._settled)

    def _receive(self) -> None:
        client = self.client
        client._take(client._receive())
        if client._told:
            self._settled = len(client.heard)

    def _lost(self) -> None:
        self.connected = False
        self._take(self._settled)

    def _take(self, many: int) -> None:
        found, self.client.heard[:many] = self.client.heard[:many], []
        self._settled -= many
        for event, arguments in found:
            reason = _reason(event, arguments)
            if reason is not None:
                self._gap(reason)
            elif event not in REPLIES:
                data = arguments[0]["data"]
                self._hear(data["by"], data["number"])

    def _hear(self, publisher: str, number: int) -> None:
        key = publisher, number
        self.story.append(f"{publisher} {number}")
        if key in self._moves_at:
            self.repeated.append((*key, self._moves_at[key] != self.moves))
            return
        self._moves_at[key] = self.moves
        self.heard.append(key)

    def last_of(self, publisher: Publisher) -> int:
        """Return the number of the last event of a publisher that it has heard, or -1."""
        return next((number for name, number in reversed(self.heard) if name == publisher.name), -1)

    def _gap(self, reason: str) -> None:
        self.gaps += 1
        self.story.append(f"gap: {reason}")
        assert self.excused or not self.forgiven, (self.name, "a gap without a reason", self.story)
        self.forgiven = {each.name: len(each.events) for each in self._publishers}

    def lost_or_wrong(self) -> list[str]:
        """Return what it has missed without having been told, and what came twice or out of order."""
        found: list[str] = []
        for publisher in self._publishers:
            name, known = publisher.name, publisher.events
            heard = [number for other, number in self.heard if other == name]
            ordered = [number for number in heard if publisher.keeps_order(number)]
            found += [f"{name} out of order: {one}, {two}" for one, two in pairwise(ordered) if two < one]
            there, last_update = set(heard), max((n for n in heard if known[n].is_update), default=-1)
            for number, event in enumerate(known[self.forgiven.get(name, 0) :], self.forgiven.get(name, 0)):
                superseded = event.is_update and last_update > number
                if event.stored and number not in there and not superseded:
                    found.append(f"{name} {number} missing")
            found += [
                f"{name} {number} twice"
                for other, number, moved in self.repeated
                if other == name and not (moved and known[number].loose)
            ]
        return found
