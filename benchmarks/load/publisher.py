"""Numbered events over HTTP, at a rate, each published until it is accepted."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from types import TracebackType

from benchmarks.load.audience import LoadError
from benchmarks.load.returning import END

ANSWER_SECONDS = 5.0
RETRY_SECONDS = 0.05
ACCEPTED = 202


@dataclass
class Publisher:
    """A thread that publishes while the context lasts: events from number 1 on to the `places` in turn.

    The `ports` take them by turns, each those of all places; where one does not accept an event, the next gets it. What
    is overdue is published at once. `posted` says how often an event went out, `accepted` which were answered 202. The
    event of number `END` closes each place. Nothing takes longer than `seconds`; then it raises `LoadError`.
    """

    host: str
    ports: Sequence[int]
    key: str
    places: Sequence[Mapping[str, str]]
    per_second: int
    seconds: float
    posted: Counter[int] = field(default_factory=Counter)
    accepted: set[int] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Publisher:
        self._limit = time.monotonic() + self.seconds
        self._threads = ThreadPoolExecutor(1)
        self._done = self._threads.submit(self._publish)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._threads.shutdown()
        if kind is None:
            self._done.result()

    def _publish(self) -> None:
        begun = time.monotonic()
        number = END
        while not self._stop.wait(begun + number / self.per_second - time.monotonic()):
            number += 1
            self._insist(number, self.places[number % len(self.places)])
        for place in self.places:
            self._insist(END, place)

    def _insist(self, number: int, place: Mapping[str, str]) -> None:
        """Publish one event until it is accepted."""
        data = {"_id": str(number), "at": str(time.monotonic_ns())}
        body = json.dumps({"type": "TicketCreated", "kind": "container", "data": data, **place}).encode()
        turn = number // len(self.places)
        while not self._accepts(self.ports[turn % len(self.ports)], number, body):
            turn += 1
            if time.monotonic() > self._limit:
                raise LoadError(f"event {number} was not accepted in time")
            time.sleep(RETRY_SECONDS)
        self.accepted.add(number)

    def _accepts(self, port: int, number: int, body: bytes) -> bool:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        with closing(HTTPConnection(self.host, port, timeout=ANSWER_SECONDS)) as connection:
            try:
                connection.connect()
                # From here on it may have arrived, whatever becomes of the answer.
                self.posted[number] += 1
                connection.request("POST", "/notify/events", body, headers)
                return connection.getresponse().status == ACCEPTED
            except (OSError, HTTPException):
                return False
