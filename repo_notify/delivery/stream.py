"""The stream by which the processes of one service have one history (spec section 9).

What is published goes to the stream and is delivered, in this process and in the others, as it comes back from there:
so everybody has it at the same place. While the stream is away a process delivers what it publishes at once, to its own
clients; the others get it when the stream is back.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from time import monotonic, time
from typing import Any, NamedTuple

from repo_notify.logs import Outage, Rarely
from repo_notify.metrics import Metrics

from . import messages
from .at_exit import at_exit
from .history.positions import new_history
from .history.record_writer import SILENT
from .history.redis_stream import Meta, Read, RedisStream, Waiting
from .history.shared import SharedHistory
from .history.store import StoreUnavailable
from .messages import Message, NotUnderstood
from .queue import FLUSH_SECONDS, MAX_WAITING, MAX_WAITING_BYTES

logger = logging.getLogger(__name__)

BATCH, BATCH_BYTES = 100, 4 * 1024 * 1024
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 2.0
# A message that fails so often while Redis answers is refused for good.
MAX_ATTEMPTS = 3
# How long a process that begins to serve waits for the stream, and how long between two tries.
OPEN_SECONDS, OPEN_PAUSE_SECONDS = 10.0, 0.2
# How long somebody who has read more than this process is waited for.
CATCH_UP_SECONDS = 2.0
# So many messages of others are remembered.
MAX_SEEN = 10_000
# How often what no process keeps any more is dropped.
TRIM_SECONDS = 5.0

# Something that was published cannot be had any more: everybody after it has missed it.
LOST = "lost"

Deliver = Callable[[], None]
Key = tuple[str, int]


class Ticket(NamedTuple):
    """By which it is known whether the stream has something: who brought it, and as the how manieth."""

    origin: str
    number: int


def _nothing() -> None:
    """Nothing is to be done at the end of the process."""


class Receiver(NamedTuple):
    """What becomes of the messages of other processes.

    `receive` carries one out, `recall` keeps what one brought at a time in monotonic seconds and sends it to nobody,
    `missed` tells everybody that something did not arrive.
    """

    receive: Callable[[Message], None]
    recall: Callable[[Message, float], None]
    missed: Callable[[], None]


class Stream:
    """One process's side of the stream. Nothing is started before the first use, nor kept over a fork."""

    def __init__(
        self,
        redis: RedisStream,
        history: SharedHistory,
        receiver: Receiver,
        metrics: Metrics,
        order: AbstractContextManager[Any],
    ) -> None:
        self._redis = redis
        self._history = history
        self._receiver = receiver
        self._metrics = metrics
        self._order = order
        self._outage = Outage(logger, "the history in Redis works again")
        self._rarely = Rarely()
        history.stored = self.takes
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._origin = secrets.token_hex(8)
        self._number = 0
        # How many messages were to be sent, and how many have been, or never will be.
        self._put = self._taken = 0
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        # Of what has been read, and of problems.
        self._progress = threading.Condition()
        # One message at a time is delivered.
        self._turn = threading.RLock()
        self._waiting: deque[Waiting] = deque()
        self._size = 0
        # What was published here and has not come back, in order; and what was delivered before it comes back, by
        # whether the history has it.
        self._pending: OrderedDict[Key, Deliver] = OrderedDict()
        self._delivered: dict[Key, bool] = {}
        # What others have brought lately.
        self._seen: OrderedDict[Key, None] = OrderedDict()
        self._lost = False
        # Whether it was waited for in vain, the last time.
        self._late = False
        self._trimmed = 0
        self._attempts = 0
        self._problems: dict[str, str] = {}
        self._serves = False
        self._something, self._closing, self._hurry = threading.Event(), threading.Event(), threading.Event()
        self._sender: threading.Thread | None = None
        self._forget: Callable[[], None] = _nothing

    def _here(self) -> None:
        """Begin anew in a forked process, and after the end."""
        if self._pid != os.getpid() or self._closing.is_set():
            self._begin()

    # What is published.

    def publish(self, dumped: str, deliver: Deliver) -> None:
        """Have an event, as `messages.dump` returned it, go to every process; `deliver` does so in this one."""
        self._here()
        with self._lock:
            key = self._new_key()
            if self._serves:
                self._pending[key] = deliver
            has_room = self._enqueue(Waiting(*key, messages.envelope(*key, messages.EVENT, dumped)))
        self._start_sender()
        if self._serves and (self._problems or not has_room):
            self._deliver_waiting()
        if not has_room:
            # It was delivered here, and does not come back.
            self._delivered.pop(key, None)

    def send(self, kind: str, dumped: str) -> None:
        """Have a message of another kind go to the other processes."""
        self._here()
        with self._lock:
            key = self._new_key()
            self._enqueue(Waiting(*key, messages.envelope(*key, kind, dumped)))
        self._start_sender()

    def offer(self, message: Message) -> None:
        """Have what somebody outside published by the message queue go to every process, which may all offer it."""
        self._here()
        key = message.origin, message.number
        body = messages.envelope(*key, message.kind, messages.dump(message.content))
        with self._turn:
            if key in self._seen:
                # Another process was faster.
                return
            self._pending[key] = lambda: self._receiver.receive(message)
            with self._lock:
                self._enqueue(Waiting(*key, body, 1))
        self._start_sender()
        if self._problems:
            self._deliver_waiting()

    def bring(self, dumped: str, *, entry: str, mark: str) -> Ticket | None:
        """Have what a 3D Repo backend published go to every process, this one too; None where too much waits already.

        It is delivered once it is in the stream, and so at once nowhere.
        """
        self._here()
        with self._lock:
            if not self.has_room:
                return None
            key = self._new_key()
            body = messages.envelope(*key, messages.BACKEND, dumped)
            self._enqueue(Waiting(*key, body, entry=entry, mark=mark))
            ticket = Ticket(self._origin, self._put)
        self._start_sender()
        return ticket

    @property
    def has_room(self) -> bool:
        """Whether more may be brought: half of what may wait is for what is published here."""
        return len(self._waiting) < MAX_WAITING // 2 and self._size < MAX_WAITING_BYTES // 2

    def has(self, ticket: Ticket) -> bool:
        """Return whether the stream has what was brought."""
        return ticket.origin == self._origin and ticket.number <= self._taken

    def lose(self) -> None:
        """Have every process take note that something was published which nobody has."""
        self._here()
        with self._lock:
            self._lost = True
            self._something.set()
        self._start_sender()

    def _new_key(self) -> Key:
        self._number += 1
        return self._origin, self._number

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

    def _deliver_waiting(self) -> None:
        """Deliver to this process's clients what has not come back from the stream."""
        with self._turn:
            while self._pending:
                key, deliver = self._pending.popitem(last=False)
                self._delivered[key] = True
                with self._order:
                    self._history.go_ahead()
                deliver()

    def wait(self, seconds: float) -> bool:
        """Wait until the stream has what was published here; return whether it has."""
        until = self._put
        with self._written:
            return self._written.wait_for(lambda: self._taken >= until, seconds) and not self._lost

    def takes(self, seconds: float) -> bool:
        """As `wait`; a stream that was waited for in vain, and has not answered since, is not waited for again."""
        taken = self.wait(0.0 if self._late and self._problems else seconds)
        self._late = not taken
        return taken

    @property
    def waiting(self) -> int:
        """How many messages the stream does not have yet."""
        return len(self._waiting)

    def problem(self) -> str | None:
        """Return what is wrong, or None."""
        return "; ".join(list(self._problems.values())) or None

    # The sender.

    def _start_sender(self) -> None:
        with self._lock:
            if self._sender is not None:
                return
            self._sender = threading.Thread(target=self._send_all, name="repo_notify stream sender", daemon=True)
        self._forget = at_exit(self.close)
        self._sender.start()

    def _send_all(self) -> None:
        # Its own: after the end there are others.
        something, closing, hurry = self._something, self._closing, self._hurry
        pause = FIRST_PAUSE_SECONDS
        while True:
            something.wait()
            something.clear()
            if self._closing is not closing:
                # There is another sender now.
                return
            try:
                self._send_waiting()
                self._works("sender")
                pause = FIRST_PAUSE_SECONDS
            except StoreUnavailable as error:
                self._failed("sender", error)
                self._look_at_first(error)
                something.set()
                hurry.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if closing.is_set():
                return

    def _send_waiting(self) -> None:
        while batch := self._first():
            if self._redis.add(batch):
                self._attempts = 0
                self._sent(batch)
            else:
                self._redis.begin(new_history(), above=self._history.reached + 1)

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
            for message in batch:
                # After an end that did not wait for it there is another queue.
                if self._waiting and self._waiting[0] is message:
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
        self._delivered.pop((refused.origin, refused.number), None)
        self._metrics.queue_dropped("refused")
        if self._rarely("refused"):
            logger.error("Redis refuses a message of %d bytes: other processes miss it: %s", len(refused.body), error)

    def _works(self, name: str) -> None:
        if self._problems.pop(name, None) is not None and not self._problems:
            self._outage.ended()

    def _failed(self, name: str, error: StoreUnavailable) -> None:
        self._problems[name] = SILENT
        self._outage.began("the history in Redis cannot be reached, trying again: %s", error)
        self._deliver_waiting()
        with self._progress:
            self._progress.notify_all()

    # The receiver.

    def open(self) -> None:
        """Read what the stream has, and follow it from there on; where it does not answer, that is tried again."""
        self._here()
        deadline = monotonic() + OPEN_SECONDS
        while True:
            try:
                self._check()
                break
            except StoreUnavailable as error:
                if monotonic() >= deadline:
                    self._failed("receiver", error)
                    break
            threading.Event().wait(OPEN_PAUSE_SECONDS)
        self._serves = True
        self._start_sender()
        follow = partial(self._follow, self._closing)
        threading.Thread(target=follow, name="repo_notify stream receiver", daemon=True).start()

    def _follow(self, closing: threading.Event) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not closing.is_set():
            try:
                self._check()
                self._works("receiver")
                pause = FIRST_PAUSE_SECONDS
                self._read_on(closing)
            except StoreUnavailable as error:
                self._failed("receiver", error)
                closing.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _read_on(self, closing: threading.Event) -> None:
        trimmed = monotonic()
        while not closing.is_set():
            if monotonic() - trimmed > TRIM_SECONDS:
                trimmed = monotonic()
                self._trim()
            found = self._redis.after(self._history.reached)
            if not found or found[0].number != self._history.reached + 1:
                self._check()
            for read in found:
                if read.number > self._history.reached:
                    self._arrived(read)

    def _trim(self) -> None:
        first = self._history.first_message
        self._redis.trim(first, self._history.lost_after(self._trimmed - 1))
        self._trimmed = first

    def _check(self) -> None:
        """Go over to the history that there is, unless it is the one that is followed."""
        meta = self._redis.meta()
        if meta is None or (meta.name == self._history.name and meta.number < self._history.reached):
            # Redis has forgotten what it had, or the end of it.
            instead = meta.name if meta is not None else ""
            self._redis.begin(new_history(), above=self._history.reached + 1, instead=instead)
            meta = self._redis.meta()
        if meta is None:
            raise StoreUnavailable("Redis keeps nothing")
        if meta.name != self._history.name:
            self._adopt(meta)

    def _adopt(self, meta: Meta) -> None:
        found = list(self._redis.between(meta.begun, meta.number))
        lost = self._redis.trimmed()
        with self._turn, self._order:
            self._history.adopt(meta, lost)
            self._delivered = dict.fromkeys(self._delivered, False)
            for read in found:
                self._history.arrive(read.number)
                message = self._read(read)
                if message is not None:
                    self._remember((message.origin, message.number))
                if message is not None and message.kind == LOST:
                    self._history.hole()
                elif message is not None and message.kind in messages.KEPT:
                    self._recall(message, read.at)
            self._history.arrive(meta.number)
            self._trimmed = self._history.first_message
        if self._serves:
            self._receiver.missed()

    def _recall(self, message: Message, at: float) -> None:
        try:
            self._receiver.recall(message, monotonic() - max(0.0, time() - at))
        # What another version of us published must not end everything else.
        except Exception:
            if self._rarely("recall"):
                logger.exception("a message of the history in Redis could not be read")

    def _arrived(self, read: Read) -> None:
        message = self._read(read)
        with self._turn:
            missing = read.number != self._history.reached + 1
            if missing:
                with self._order:
                    self._history.arrive(read.number - 1)
                self._receiver.missed()
            with self._order:
                self._history.arrive(read.number)
            if message is not None and message.kind == LOST:
                # At its own place, where those have it who read of it later: a position behind it is one for all.
                self._receiver.missed()
            if message is not None and message.kind in messages.KINDS:
                self._carry_out(message, read)
        with self._progress:
            self._progress.notify_all()

    def _carry_out(self, message: Message, read: Read) -> None:
        key = message.origin, message.number
        kept = self._delivered.pop(key, None)
        if message.origin != self._origin:
            self._remember(key)
        if kept is False:
            self._recall(message, read.at)
        if kept is not None:
            return
        deliver = self._pending.pop(key, None)
        try:
            if deliver is not None:
                deliver()
            elif message.origin != self._origin or message.kind in messages.KEPT:
                # One of its own that nobody waits for was brought, or published before this process served.
                self._receiver.receive(message)
        # A message that another version of us sent, or nobody of us, must not end the subscription.
        except Exception:
            self._metrics.queue_ignored.inc()
            if self._rarely("failure"):
                logger.exception("a message of the history in Redis could not be carried out")

    def _remember(self, key: Key) -> None:
        """Take note that something of another origin is there: the queue may bring it, too."""
        self._seen[key] = None
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    def _read(self, read: Read) -> Message | None:
        try:
            message = messages.decode(read.body)
        except (NotUnderstood, TypeError) as error:
            self._metrics.queue_ignored.inc()
            if self._rarely("passed over"):
                logger.error("passed over %s in the history in Redis", error)
            return None
        return message

    def reach(self, number: int) -> None:
        """Wait, for a moment, until a message was read that somebody else has read already."""
        with self._progress:
            self._progress.wait_for(lambda: self._history.reached >= number or bool(self._problems), CATCH_UP_SECONDS)

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what waits, for so many seconds at most, and end."""
        if self._pid != os.getpid() or self._closing.is_set():
            return
        self._forget()
        self._hurry.set()
        if self._sender is not None:
            self.wait(seconds)
        self._closing.set()
        self._something.set()
        # What a queue brought stays there until it is acknowledged.
        if left := sum(not message.entry for message in self._waiting):
            logger.error("the history in Redis did not take %d messages at the end: they are lost", left)
