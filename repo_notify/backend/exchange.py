"""The 3D Repo backend's exchange, as one process consumes it (spec section 11).

The broker may be away at any time: it is tried again for ever, with growing pauses. kombu opens the connection and
keeps its heartbeat; deliveries are taken from the socket by `frames`, since the client library's own way costs a
process at 3,000 messages a second a good part of a core.
"""

from __future__ import annotations

import logging
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from repo_notify.delivery.at_exit import at_exit
from repo_notify.delivery.broker import Deadlines, connect, describe, kind, leave, require_libraries
from repo_notify.logs import Outage

from .frames import Deliveries, Delivery, Frame
from .messages import MAX_BODY_BYTES
from .takers import SETTLE_SECONDS, Taker

if TYPE_CHECKING:
    from kombu import Connection

logger = logging.getLogger(__name__)

SETTING = "REPO_NOTIFY_BACKEND_QUEUE"
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
# Each pause is up to so much longer, by chance: the processes of a service do not all come back at once.
JITTER = 0.5
# How often the heartbeat is looked at, and whether the exchange is there as it was, bound to the queue.
_LOOK_SECONDS, CHECK_SECONDS = 1.0, 5.0
# How long whoever asks waits for the outcome of the very first try.
_FIRST_ANSWER_SECONDS = 0.3
_RECEIVE_BYTES = 65_536
# For how long messages are carried out in one go while others wait for the event loop, and how long it then has.
_BUSY_SECONDS, _GIVE_WAY_SECONDS = 0.005, 0.0005

# Beyond so many messages a second they gather for so long: to wake for each costs more than to carry it out.
GATHERING_RATE, GATHERING_SECONDS = 2_000, 0.01
_SLOT_SECONDS = 0.5

# How long nothing is read where no more can be taken.
_HOLD_SECONDS = 0.1

# Called with the channel of each subscription.
NewTaker = Callable[[Any], Taker]
Problem = Literal["missing", "other"]


def nothing() -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue that is bound to the exchange, as it is declared.

    By default one that the broker names, for this process alone, gone with its connection. One that several processes
    take turns at has a name and `x-single-active-consumer` among its arguments.
    """

    name: str = ""
    exclusive: bool = True
    auto_delete: bool = True
    durable: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outlasts(self) -> bool:
        """Whether it keeps what is published while nobody consumes it."""
        return not self.exclusive and not self.auto_delete


OWN = Queue()


class Exchange:
    """Hands each message that the backend publishes to a taker, in order, in a thread of its own.

    `missed` is called whenever a subscription begins that may not have had everything before it, `made` before it where
    there was no exchange; `sleep` is how its thread waits. Nothing is started before `start`, so that a server may fork
    after the app was made.
    """

    def __init__(
        self,
        url: str,
        name: str,
        new_taker: NewTaker,
        *,
        queue: Queue = OWN,
        deadlines: Deadlines | None = None,
        missed: Callable[[], None] = nothing,
        made: Callable[[], None] = nothing,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        require_libraries(url, SETTING)
        self.url, self.name, self.queue = url, name, queue
        self.new_taker, self.missed, self.made, self.sleep = new_taker, missed, made, sleep
        self.deadlines = deadlines or Deadlines()
        self._lock = threading.Lock()
        self._consumer: _Consumer | None = None

    def start(self, wait: float = 0.0) -> None:
        """Begin in this process, unless that was done; wait up to `wait` seconds for the outcome of the first try."""
        self._current().tried.wait(wait)

    def problem(self) -> str | None:
        """Return why the exchange is not consumed right now, or None."""
        consumer = self._current()
        consumer.tried.wait(_FIRST_ANSWER_SECONDS)
        return consumer.problem

    @property
    def seconds(self) -> float:
        """For how long the exchange has been consumed without a break."""
        return monotonic() - self._current().since

    def close(self) -> None:
        """End the background work."""
        with self._lock:
            consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _current(self) -> _Consumer:
        consumer = self._consumer
        if consumer is not None and consumer.pid == os.getpid():
            return consumer
        with self._lock:
            if self._consumer is None or self._consumer.pid != os.getpid():
                self._consumer = _Consumer(self)
                self._consumer.start()
            return self._consumer


# What the broker answers to a declaration that does not hold (AMQP 0-9-1 section 1.2).
_REFUSALS: Mapping[int, Problem] = {404: "missing", 406: "other"}


def look_at(url: str, name: str, deadlines: Deadlines | None = None) -> Problem | None:
    """Return what is wrong with an exchange: it is not there, or no durable fanout; raises whatever the client raises.

    Nothing is made: only what is there is declared as it should be, which the broker refuses where it is not so.
    """
    deadlines = deadlines or Deadlines()
    connection = connect(url, deadlines)
    try:
        for passive in (True, False):
            channel = connection.channel()
            channel.exchange_declare(name, type="fanout", durable=True, auto_delete=False, passive=passive)
    except connection.channel_errors as error:
        problem = _REFUSALS.get(error.reply_code)
        if problem is None:
            raise
        return problem
    finally:
        leave(connection, deadlines, working=True)
    return None


def _is_there(connection: Connection, declare: Callable[[Any], object]) -> bool:
    """Return whether what `declare` declares passively on a channel is there."""
    channel = connection.channel()
    try:
        declare(channel)
    except connection.channel_errors as error:
        if _REFUSALS.get(error.reply_code) != "missing":
            raise
        return False
    channel.close()
    return True


def _check(channel: Any, exchange: str, queue: str) -> None:
    """Ask whether the exchange is there, is of its kind, and is bound, without waiting for the answers.

    Where it is not the broker closes the channel, for which the client library raises. One that was deleted and made
    anew is bound again.
    """
    from amqp import spec

    for passive in (True, False):
        arguments: tuple[Any, ...] = (0, exchange, "fanout", passive, True, False, False, False, {})
        channel.send_method(spec.Exchange.Declare, "BssbbbbbF", arguments)
    channel.send_method(spec.Queue.Bind, "BsssbF", (0, queue, exchange, "", False, {}))


def _received(sock: Any) -> bytes:
    """Return what has arrived, empty at the end; raises `TimeoutError`.

    TLS hands out one record at a time, which may be no more than a message.
    """
    data: bytes = sock.recv(_RECEIVE_BYTES)
    if not data or not isinstance(sock, ssl.SSLSocket):
        return data
    parts, size = [data], len(data)
    sock.settimeout(0)
    # The end is seen by whoever reads next.
    with suppress(ssl.SSLWantReadError):
        while size < _RECEIVE_BYTES and (data := sock.recv(_RECEIVE_BYTES)):
            parts.append(data)
            size += len(data)
    return b"".join(parts)


class _Pace:
    """Whether messages arrive so fast that they are better left to gather."""

    def __init__(self) -> None:
        self.is_fast = False
        self._began = monotonic()
        self._number = 0

    def add(self, number: int, full: bool) -> None:
        """Count messages; `full` where more of them wait already."""
        self._number += number
        if (seconds := monotonic() - self._began) >= _SLOT_SECONDS:
            self.is_fast = self._number / seconds > GATHERING_RATE
            self._began, self._number = monotonic(), 0
        if full:
            self.is_fast = False


class _Consumer:
    """What one process has of the exchange: a thread with a connection."""

    def __init__(self, of: Exchange) -> None:
        self.pid = os.getpid()
        # Why it does not consume right now.
        self.problem: str | None = "the backend's exchange has not answered yet"
        self.tried = threading.Event()
        # When it began to, in monotonic seconds.
        self.since = monotonic()
        self._of = of
        self._closing = threading.Event()
        self._pause = FIRST_PAUSE_SECONDS
        self._outage = Outage(logger, "the backend's exchange is consumed again")
        self._forget = at_exit(self.close)

    def start(self) -> None:
        threading.Thread(target=self._keep, name="repo_notify-backend", daemon=True).start()

    def close(self) -> None:
        self._forget()
        self._closing.set()

    def _keep(self) -> None:
        while not self._closing.is_set():
            connection = None
            try:
                connection = connect(self._of.url, self._of.deadlines)
                self._consume(connection)
            except Exception as error:  # noqa: BLE001 - each part of the client raises its own kinds; it is tried again
                self._failed(error)
            if connection is not None:
                # What it would say at its end stands between deliveries that nobody reads any more.
                leave(connection, self._of.deadlines, working=False)
            self._closing.wait(self._pause * (1 + random.random() * JITTER))  # noqa: S311 - nobody guesses a pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    def _failed(self, error: Exception) -> None:
        if self._closing.is_set():
            return
        self.problem = f"the backend's exchange {self._of.name} cannot be consumed ({kind(error)})"
        text = describe(error, self._of.url)
        self._outage.began("the backend's exchange %r cannot be consumed, trying again: %s", self._of.name, text)
        self.tried.set()

    def _consume(self, connection: Connection) -> None:
        exchange, queue = self._of.name, self._of.queue
        is_there = _is_there(connection, lambda channel: channel.exchange_declare(exchange, "fanout", passive=True))
        is_whole = is_there and queue.outlasts
        if is_whole:
            is_whole = _is_there(connection, lambda channel: channel.queue_declare(queue.name, passive=True))
        channel = connection.channel()
        taker = self._of.new_taker(channel)
        bound = self._subscribe(channel, no_ack=not taker.acknowledges)
        self._pause = FIRST_PAUSE_SECONDS
        if not is_there:
            self._of.made()
        if not is_whole:
            self._of.missed()
        self.problem, self.since = None, monotonic()
        self.tried.set()
        self._outage.ended()
        self._drain(connection, taker, partial(_check, channel, exchange, bound))

    def _subscribe(self, channel: Any, *, no_ack: bool) -> str:
        """Consume the exchange, and return the queue's name."""
        exchange, queue = self._of.name, self._of.queue
        # As the backend declares it: whoever comes first makes it, and one of another kind is an error.
        channel.exchange_declare(exchange, type="fanout", durable=True, auto_delete=False)
        declared = channel.queue_declare(
            queue.name,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            durable=queue.durable,
            arguments=dict(queue.arguments),
        )
        channel.queue_bind(declared.queue, exchange, routing_key="")
        channel.basic_consume(declared.queue, no_ack=no_ack)
        return str(declared.queue)

    def _drain(self, connection: Connection, taker: Taker, check: Callable[[], None]) -> None:
        library = connection.connection
        sock = library.transport.sock
        deliveries = Deliveries(MAX_BODY_BYTES)
        looked = checked = monotonic()
        pace = _Pace()
        while not self._closing.is_set():
            if pace.is_fast:
                self._of.sleep(GATHERING_SECONDS)
            if taker.settle():
                sock.settimeout(_LOOK_SECONDS if taker.is_idle else SETTLE_SECONDS)
                pace.add(*self._read(library, sock, deliveries, taker))
            else:
                self._of.sleep(_HOLD_SECONDS)
                # The library would take it for the broker's silence.
                library.bytes_recv += 1
            sock.settimeout(self._of.deadlines.io)
            if monotonic() - looked >= _LOOK_SECONDS:
                looked = monotonic()
                connection.heartbeat_check()
            if monotonic() - checked >= CHECK_SECONDS:
                checked = monotonic()
                check()

    def _read(self, library: Any, sock: Any, deliveries: Deliveries, taker: Taker) -> tuple[int, bool]:
        """Take what has arrived; return how many messages that was, and whether there is more."""
        try:
            data = _received(sock)
        except TimeoutError:
            return 0, False
        if taker.acknowledges and self._closing.is_set():
            # The stream is at its end, too; somebody else is to have it.
            return 0, False
        if not data:
            raise ConnectionResetError("the broker has closed the connection")
        # What arrives proves that the broker is alive.
        library.bytes_recv += len(data)
        return self._take(library, deliveries, data, taker), len(data) >= _RECEIVE_BYTES

    def _take(self, library: Any, deliveries: Deliveries, data: bytes, taker: Taker) -> int:
        busy_until, number = monotonic() + _BUSY_SECONDS, 0
        for number, item in enumerate(deliveries.feed(data), 1):  # noqa: B007 - counted
            if isinstance(item, Delivery):
                taker.take(item)
            else:
                taker.hear(item)
                self._hand_over(library, item)
            if monotonic() > busy_until:
                self._of.sleep(_GIVE_WAY_SECONDS)
                busy_until = monotonic() + _BUSY_SECONDS
        return number

    @staticmethod
    def _hand_over(library: Any, frame: Frame) -> None:
        """Have the library carry out what is no delivery: the broker closes, or cancels the consumer."""
        library.on_inbound_frame((frame.type, frame.channel, frame.payload))
