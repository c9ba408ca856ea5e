"""The stream by which the processes of one service have one history (spec section 9).

What is published goes to the stream and is delivered, in this process and in the others, as it comes back from there:
so everybody has it at the same place. While the stream is away a process delivers what it publishes at once, to its own
clients; the others get it when the stream is back.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from time import monotonic, time
from typing import Any, NamedTuple

from repo_notify.logs import Outage, Rarely
from repo_notify.metrics import Metrics

from . import messages
from .history.positions import new_history
from .history.record_writer import SILENT
from .history.redis_stream import Meta, Read, RedisStream
from .history.shared import SharedHistory
from .history.store import StoreUnavailable
from .messages import Message, NotUnderstood
from .queue import FLUSH_SECONDS
from .stream_sender import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LOST, Key, StreamSender, Ticket, Told

logger = logging.getLogger(__name__)

# How long a process that begins to serve waits for the stream, and how long between two tries.
OPEN_SECONDS, OPEN_PAUSE_SECONDS = 10.0, 0.2
# How long somebody who has read more than this process is waited for.
CATCH_UP_SECONDS = 2.0
# So many messages are remembered.
MAX_SEEN = 10_000
# How often what no process keeps any more is dropped.
TRIM_SECONDS = 5.0

Deliver = Callable[[], None]


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
        history.stored, history.problem = self.wait, self.problem
        self._begin()

    def _begin(self) -> None:
        told = Told(partial(self._works, "sender"), partial(self._failed, "sender"), self._refused)
        self._sender = StreamSender(self._redis, lambda: self._history.reached, self._metrics, told)
        # Of what has been read, and of problems.
        self._progress = threading.Condition()
        # One message at a time is delivered.
        self._turn = threading.RLock()
        # What was published here and has not come back, in order; and what was delivered before it comes back, by
        # whether the history has it.
        self._pending: OrderedDict[Key, Deliver] = OrderedDict()
        self._delivered: dict[Key, bool] = {}
        # What has been read lately, and the history in which it was.
        self._seen: OrderedDict[Key, str] = OrderedDict()
        self._trimmed = 0
        self._problems: dict[str, str] = {}
        self._serves = False

    def _here(self) -> None:
        """Begin anew in a forked process, and after the end."""
        if self._sender.is_over:
            self._begin()

    # What is published.

    def publish(self, dumped: str, deliver: Deliver) -> None:
        """Have an event, as `messages.dump` returned it, go to every process; `deliver` does so in this one."""
        self._here()
        if self._serves:
            key, has_room = self._sender.add(messages.EVENT, dumped, partial(self._expect, deliver))
        else:
            key, has_room = self._sender.add(messages.EVENT, dumped)
        if self._serves and (self._problems or not has_room):
            self._deliver_waiting()
        if not has_room:
            # It was delivered here, and does not come back.
            self._delivered.pop(key, None)

    def send(self, kind: str, dumped: str) -> None:
        """Have a message of another kind go to the other processes."""
        self._here()
        self._sender.add(kind, dumped)

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
            self._sender.offer(key, body)
        if self._problems:
            self._deliver_waiting()

    def bring(self, dumped: str, *, entry: str, mark: str) -> Ticket | None:
        """Have what a 3D Repo backend published go to every process, this one too; None where too much waits already.

        It is delivered once it is in the stream, and so at once nowhere.
        """
        self._here()
        return self._sender.bring(dumped, entry=entry, mark=mark)

    def has(self, ticket: Ticket) -> bool:
        """Return whether the stream has what was brought."""
        return self._sender.has_sent(ticket)

    def lose(self) -> None:
        """Have every process take note that something was published which nobody has."""
        self._here()
        self._sender.lose()

    def _expect(self, deliver: Deliver, key: Key) -> None:
        self._pending[key] = deliver

    def _refused(self, key: Key) -> None:
        """Take note that a message does not come back."""
        self._delivered.pop(key, None)

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
        return self._sender.wait(seconds)

    @property
    def waiting(self) -> int:
        """How many messages the stream does not have yet."""
        return self._sender.waiting

    def problem(self) -> str | None:
        """Return what is wrong, or None."""
        return "; ".join(list(self._problems.values())) or None

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
        self._sender.start()
        follow = partial(self._follow, self._sender.closing)
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
        with self._turn:
            # It may be among what was found, and then does not come back.
            self._deliver_waiting()
            with self._order:
                self._go_over(meta, lost, found)
        if self._serves:
            self._receiver.missed()

    def _go_over(self, meta: Meta, lost: Iterable[tuple[str, int]], found: Iterable[Read]) -> None:
        self._history.adopt(meta, lost)
        self._delivered = dict.fromkeys(self._delivered, False)
        for read in found:
            self._history.arrive(read.number)
            message = self._read(read)
            if message is None or self._seen_in(message) == meta.name:
                continue
            self._delivered.pop((message.origin, message.number), None)
            self._remember(message)
            if message.kind == LOST:
                self._history.hole()
            else:
                self._recall(message, read.at)
        self._history.arrive(meta.number)
        self._trimmed = self._history.first_message

    def _recall(self, message: Message, at: float) -> None:
        """Keep what everybody here has heard, or was told of by a gap."""
        if message.kind not in messages.KEPT:
            return
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
        delivered = self._delivered.pop(key, None)
        seen = self._seen_in(message)
        self._remember(message)
        if seen == self._history.name:
            # It was offered again, long after that.
            return
        if seen is not None or delivered is False:
            # What it was in, or would have been in, is forgotten.
            self._recall(message, read.at)
        if seen is not None or delivered is not None:
            return
        deliver = self._pending.pop(key, None)
        try:
            if deliver is not None:
                deliver()
            elif message.origin != self._sender.origin or message.kind in messages.KEPT:
                # One of its own that nobody waits for was brought, or published before this process served.
                self._receiver.receive(message)
        # A message that another version of us sent, or nobody of us, must not end the subscription.
        except Exception:
            self._metrics.queue_ignored.inc()
            if self._rarely("failure"):
                logger.exception("a message of the history in Redis could not be carried out")

    def _seen_in(self, message: Message) -> str | None:
        """Return the history in which a message was last; None for one that was in none."""
        return self._seen.get((message.origin, message.number))

    def _remember(self, message: Message) -> None:
        """Take note that a message is there: the queue may bring it, too, and so may who does not know that it is."""
        self._seen[message.origin, message.number] = self._history.name
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
        self._sender.close(seconds)
