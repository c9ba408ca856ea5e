"""What one process has for the stream, sent in the background and in order."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics

from . import messages
from .at_exit import at_exit
from .history.positions import new_history
from .history.redis_stream import RedisStream, Waiting
from .history.store import StoreUnavailable
from .queue import FLUSH_SECONDS, MAX_WAITING, MAX_WAITING_BYTES

logger = logging.getLogger(__name__)

BATCH, BATCH_BYTES = 100, 4 * 1024 * 1024
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0
# A message that fails so often while Redis answers is refused for good.
MAX_ATTEMPTS = 3

# Something that was published cannot be had any more: everybody after it has missed it.
LOST = "lost"

# By which a message is known: who published it, and as the how manieth.
Key = tuple[str, int]


class Ticket(NamedTuple):
    """By which it is known whether the stream has something: who brought it, and as the how manieth."""

    origin: str
    number: int


class Told(NamedTuple):
    """Who is told how it goes: `works` after something was sent, `failed`, and `refused` of what never will be."""

    works: Callable[[], None]
    failed: Callable[[StoreUnavailable], None]
    refused: Callable[[Key], None]


def _nothing(*_: object) -> None:
    """Nothing is to be done at the end of the process, nor for a message that nobody waits for."""


class StreamSender:
    """What waits for the stream, of one process between two forks. Nothing is started before the first message.

    `reached` returns the number of the last message that is in this process's history.
    """

    def __init__(self, redis: RedisStream, reached: Callable[[], int], metrics: Metrics, told: Told) -> None:
        self._redis, self._reached, self._metrics, self._told = redis, reached, metrics, told
        self._pid = os.getpid()
        self.origin = secrets.token_hex(8)
        self._number = 0
        # How many messages were to be sent, and how many have been, or never will be.
        self._put = self._taken = 0
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._waiting: deque[Waiting] = deque()
        self._size = 0
        self._lost = False
        self._attempts = 0
        self._rarely = Rarely()
        self._something, self._hurry = threading.Event(), threading.Event()
        self.closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._forget: Callable[[], None] = _nothing

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is another process's."""
        return self._pid != os.getpid() or self.closing.is_set()

    @property
    def waiting(self) -> int:
        """How many messages the stream does not have yet."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether more may be brought: half of what may wait is for what is published here."""
        return len(self._waiting) < MAX_WAITING // 2 and self._size < MAX_WAITING_BYTES // 2

    # What is to be sent.

    def add(self, kind: str, dumped: str, expect: Callable[[Key], None] = _nothing) -> tuple[Key, bool]:
        """Have a message of this process sent; return its key, and whether there was room for it.

        `expect` is told of it before it can come back.
        """
        with self._lock:
            key = self._new_key()
            expect(key)
            has_room = self._enqueue(Waiting(*key, messages.envelope(*key, kind, dumped)))
        self.start()
        return key, has_room

    def offer(self, key: Key, body: bytes) -> None:
        """Have a message sent that others may offer, too."""
        with self._lock:
            self._enqueue(Waiting(*key, body, 1))
        self.start()

    def bring(self, dumped: str, *, entry: str, mark: str) -> Ticket | None:
        """Have what a 3D Repo backend published sent; None where too much waits already."""
        with self._lock:
            if not self.has_room:
                return None
            key = self._new_key()
            body = messages.envelope(*key, messages.BACKEND, dumped)
            self._enqueue(Waiting(*key, body, entry=entry, mark=mark))
            ticket = Ticket(self.origin, self._put)
        self.start()
        return ticket

    def has_sent(self, ticket: Ticket) -> bool:
        """Return whether the stream has what was brought."""
        return ticket.origin == self.origin and ticket.number <= self._taken

    def lose(self) -> None:
        """Have every process take note that something was published which nobody has."""
        with self._lock:
            self._lost = True
            self._something.set()
        self.start()

    def wait(self, seconds: float) -> bool:
        """Wait until the stream has what was to be sent; return whether it has."""
        until = self._put
        with self._written:
            return self._written.wait_for(lambda: self._taken >= until, seconds) and not self._lost

    def _new_key(self) -> Key:
        self._number += 1
        return self.origin, self._number

    def _enqueue(self, message: Waiting) -> bool:
        """Have a message sent; return False where too much waits already."""
        if len(self._waiting) >= MAX_WAITING or self._size + len(message.body) > MAX_WAITING_BYTES:
            self._lost = True
            self._metrics.queue_dropped("backlog_messages")
            if self._rarely("full"):
                logger.error("too much waits for the history in Redis: other processes miss what is published here")
            return False
        self._waiting.append(message)
        self._size += len(message.body)
        self._put += 1
        self._something.set()
        return True

    # Sending.

    def start(self) -> None:
        """Begin to send, unless that was done."""
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._send_all, name="repo_notify stream sender", daemon=True)
        self._forget = at_exit(self.close)
        self._thread.start()

    def _send_all(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._something.wait()
            self._something.clear()
            try:
                self._send_waiting()
                self._told.works()
                pause = FIRST_PAUSE_SECONDS
            except StoreUnavailable as error:
                if self.closing.is_set():
                    return
                self._told.failed(error)
                self._look_at_first(error)
                self._something.set()
                self._hurry.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if self.closing.is_set():
                return

    def _send_waiting(self) -> None:
        while batch := self._first():
            if self._redis.add(batch):
                self._attempts = 0
                self._sent(batch)
            else:
                self._redis.begin(new_history(), above=self._reached() + 1)

    def _first(self) -> list[Waiting]:
        with self._lock:
            if self._lost:
                # Behind what waits: what was lost would have been there.
                key = self._new_key()
                self._waiting.append(Waiting(*key, messages.envelope(*key, LOST, messages.dump({}))))
                self._put += 1
                self._lost = False
            size = 0
            batch: list[Waiting] = []
            for message in islice(self._waiting, 1 if self._attempts else BATCH):
                size += len(message.body)
                if batch and size > BATCH_BYTES:
                    break
                batch.append(message)
        return batch

    def _sent(self, batch: list[Waiting]) -> None:
        with self._written:
            for _ in batch:
                self._remove_first()
            self._written.notify_all()

    def _remove_first(self) -> Waiting:
        message = self._waiting.popleft()
        self._size -= len(message.body)
        self._taken += 1
        return message

    def _look_at_first(self, error: StoreUnavailable) -> None:
        """Give up a message that Redis refuses although it answers."""
        self._attempts += 1
        if self._attempts < MAX_ATTEMPTS or not self._redis.answers():
            return
        self._attempts = 0
        with self._written:
            refused = self._remove_first()
            self._lost = True
            self._written.notify_all()
        self._told.refused((refused.origin, refused.number))
        self._metrics.queue_dropped("refused")
        if self._rarely("refused"):
            logger.error("Redis refuses a message of %d bytes: other processes miss it: %s", len(refused.body), error)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what waits, for so many seconds at most, and end."""
        if self.is_over:
            return
        self._forget()
        self._hurry.set()
        if self._thread is not None:
            self.wait(seconds)
        self.closing.set()
        self._something.set()
        # What a queue brought stays there until it is acknowledged.
        if left := sum(not message.entry for message in self._waiting):
            logger.error("the history in Redis did not take %d messages at the end: they are lost", left)
