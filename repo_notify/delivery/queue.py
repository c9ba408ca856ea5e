"""The message queue between the processes of one service.

What is sent is encoded at once and leaves in the background, in order. While the broker is out of reach it is kept, up
to a bound, and tried again with growing pauses; deliveries within the process do not wait for it. What was sent comes
back to the process itself, too: that proves that the queue works in both directions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics

from . import messages
from .at_exit import at_exit
from .broker import Deadlines, connect, describe, exchange, kind, leave, require_libraries, sender
from .messages import Backlog, Message, NotUnderstood, Origins, Refusal

if TYPE_CHECKING:
    from kombu import Connection

logger = logging.getLogger(__name__)

# About a minute of a busy service; a broker that is away for longer is an outage, and memory is not for it.
MAX_WAITING, MAX_WAITING_BYTES = 10_000, 64 * 1024 * 1024
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
# How long the end of a process may wait for the broker to take what is left.
FLUSH_SECONDS = 2.0
# A message that fails so often on a connection that has just carried another one is refused for good.
MAX_ATTEMPTS = 3
_DRAIN_SECONDS = 1.0
# How often a process asks whether its subscription stands already.
_SUBSCRIBING_SECONDS = 0.2

Receive = Callable[[Message], None]


# Something of another process did not arrive, and will not.
Missed = Callable[[], None]


def _nobody_is_told() -> None:
    """Who missed something is not known."""


class _Silent(Exception):
    """The broker accepts messages and hands none out."""


class Bus:
    """Sends messages to the other processes and hands theirs to `receive`; `missed` is told of those that are lost.

    Nothing is started before the first use, so that a server may fork after the app was made; a forked process gets an
    origin, a backlog and threads of its own.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        receive: Receive,
        metrics: Metrics,
        deadlines: Deadlines | None = None,
        missed: Missed = _nobody_is_told,
    ) -> None:
        require_libraries(url)
        self._url, self._channel = url, channel
        self._receive, self._missed = receive, missed
        self._metrics = metrics
        self._deadlines = deadlines or Deadlines()
        self._lock = threading.Lock()
        self._link: _Link | None = None
        metrics.queue_up.watch(lambda: {(): int(self._now().problem() is None)})
        metrics.queue_backlog_messages.watch(lambda: {(): len(self._now().backlog)})
        metrics.queue_backlog_bytes.watch(lambda: {(): self._now().backlog.bytes})

    def start(self, wait: float = 0.0) -> None:
        """Begin in this process, unless that was done; wait up to `wait` seconds for the subscription."""
        link, fresh = self._current()
        if fresh and wait:
            link.subscribed.wait(wait)

    def send(self, kind: str, dumped: str) -> None:
        """Hand what `messages.dump` returned over to the other processes; the newest is dropped when too much waits."""
        while not self._now().send(kind, dumped):
            """It was closed meanwhile: there is another one now."""

    def problem(self) -> str | None:
        """Return why the queue does not work right now, or None."""
        self.start(self._deadlines.connect)
        return self._now().problem()

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what waits, for at most `seconds`, and end the background work; a later message begins anew.

        What the broker has not taken by then is lost, and logged. Called at the end of the process by itself.
        """
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close(seconds)

    def _current(self) -> tuple[_Link, bool]:
        link = self._link
        if link is not None and link.pid == os.getpid():
            return link, False
        with self._lock:
            fresh = self._link is None or self._link.pid != os.getpid()
            if self._link is None or fresh:
                self._link = _Link(
                    self._url, self._channel, self._receive, self._missed, self._metrics, self._deadlines
                )
                self._link.start()
            return self._link, fresh

    def _now(self) -> _Link:
        return self._current()[0]


class _Link:
    """What one process has of the queue: its origin, what waits, and two threads with a connection each."""

    def __init__(
        self, url: str, channel: str, receive: Receive, missed: Missed, metrics: Metrics, deadlines: Deadlines
    ) -> None:
        self.pid = os.getpid()
        self.backlog = Backlog(MAX_WAITING, MAX_WAITING_BYTES)
        self.subscribed = threading.Event()
        self._url, self._channel = url, channel
        self._receive, self._missed, self._metrics, self._deadlines = receive, missed, metrics, deadlines
        self._origin = secrets.token_hex(8)
        self._number = 0
        self._origins = Origins()
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._closing = threading.Event()
        # Set at the end: whoever pauses between two attempts has no time left for it.
        self._hurry = threading.Event()
        self._empty = threading.Event()
        self._empty.set()
        self._rarely = Rarely()
        self._problems: dict[str, str] = {}
        self._pauses = dict.fromkeys(("receiver", "sender"), FIRST_PAUSE_SECONDS)
        self._full = False
        self._attempts = (0, 0)
        now = monotonic()
        self._sent_at = self._heard_at = self._own_at = now
        self._unseen_since: float | None = None
        self._forget = at_exit(self.close)

    def start(self) -> None:
        for name, work in (("receiver", self._listen), ("sender", self._send_waiting)):
            threading.Thread(target=self._keep, args=(name, work), name=f"repo_notify-{name}", daemon=True).start()

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        # A forked process has inherited what was to be done at the end of its parent.
        if self.pid != os.getpid() or self._closing.is_set():
            return
        self._forget()
        self._hurry.set()
        self._empty.wait(seconds)
        with self._lock:
            self._closing.set()
        self._something.set()
        if left := len(self.backlog):
            logger.error(
                "%s for the other processes lost, as the message queue did not take %s within %g s at the end: %s",
                "1 message" if left == 1 else f"{left:,} messages",
                "it" if left == 1 else "them",
                seconds,
                self.problem() or "the message queue is too slow",
            )

    def send(self, kind: str, dumped: str) -> bool:
        """Have a message wait for the sender, or drop it where too much waits; return whether this is still in use."""
        with self._lock:
            if self._closing.is_set():
                return False
            # What is dropped takes a number all the same: the others see that they have missed something.
            self._number += 1
            body = messages.envelope(self._origin, self._number, kind, dumped)
            refusal = self.backlog.put(self._number, body)
            if refusal is None:
                self._empty.clear()
        if refusal is None:
            self._something.set()
        else:
            self._dropped(refusal)
        return True

    def _dropped(self, refusal: Refusal) -> None:
        self._metrics.queue_dropped(refusal)
        if not self._full:
            self._full = True
            logger.error(
                "message queue unreachable and its backlog full (%s messages, %s bytes): dropped one message for the "
                "other processes; further ones are counted in repo_notify_queue_dropped_total",
                f"{len(self.backlog):,}",
                f"{self.backlog.bytes:,}",
            )

    def problem(self) -> str | None:
        if self._problems:
            return "; ".join(list(self._problems.values()))
        if not self.subscribed.is_set():
            return "the message queue has not answered yet"
        if (silent := monotonic() - self._own_at) > self._deadlines.silent:
            return f"the message queue is silent: nothing of this process has come back for {silent:.0f} s"
        return None

    def _keep(self, name: str, work: Callable[[Connection], None]) -> None:
        while not self._closing.is_set():
            connection, working = None, False
            try:
                connection = connect(self._url, self._deadlines)
                work(connection)
                working = True
            except Exception as error:  # noqa: BLE001 - each transport raises its own kinds; the queue is tried again
                self._failed(name, error)
            if connection is not None:
                leave(connection, self._deadlines, working=working)
            self._pause(name)

    def _pause(self, name: str) -> None:
        if self._hurry.is_set():
            self._closing.wait(FIRST_PAUSE_SECONDS)
            return
        self._hurry.wait(self._pauses[name])
        self._pauses[name] = min(self._pauses[name] * 2, LONGEST_PAUSE_SECONDS)

    def _failed(self, name: str, error: Exception) -> None:
        text = describe(error, self._url)
        with self._lock:
            news = not self._problems and not self._closing.is_set()
            self._problems[name] = f"the message queue cannot be reached ({kind(error)})"
        if news:
            logger.warning("the message queue cannot be reached, trying again: %s", text)
        self._metrics.queue_errors.inc()

    def _came_back(self) -> None:
        """Note a message of this process's own: the queue works in both directions."""
        self._own_at, self._unseen_since = monotonic(), None
        self._pauses["receiver"] = FIRST_PAUSE_SECONDS
        self.subscribed.set()
        if self._problems:
            self._problems.clear()
            logger.warning("the message queue works again")

    def _listen(self, connection: Connection) -> None:
        from kombu import Consumer, Queue

        # A fresh name: the broker may still hold the exclusive queue of a connection that it does not know to be dead.
        name = f"{self._channel}.{self._origin}.{secrets.token_hex(4)}"
        queue = Queue(name, exchange(self._channel), exclusive=True, auto_delete=True, durable=False)
        consumer = Consumer(connection.channel(), [queue], on_message=self._received, no_ack=True)
        consumer.on_decode_error = lambda _, error: self._pass_over(f"a message that is none of ours ({error})")
        consumer.consume()
        self._heard_at, self._unseen_since = monotonic(), None
        self._something.set()
        try:
            self._drain(connection)
        finally:
            self.subscribed.clear()

    def _drain(self, connection: Connection) -> None:
        looked = monotonic()
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=_DRAIN_SECONDS)
            if monotonic() - looked >= _DRAIN_SECONDS:
                looked = monotonic()
                self._check_echo(looked)
                if connection.supports_heartbeats:
                    connection.heartbeat_check()

    def _check_echo(self, now: float) -> None:
        unseen = self._unseen_since
        # Whoever is merely late still hears something.
        if unseen is not None and now - max(unseen, self._heard_at) > self._deadlines.echo:
            raise _Silent(f"nothing has come back for {now - unseen:.0f} s")

    def _received(self, raw: Any) -> None:
        self._heard_at = monotonic()
        if raw.content_type != messages.CONTENT_TYPE:
            self._pass_over(f"a message of another content type ({str(raw.content_type)[:80]})")
            return
        try:
            message = messages.decode(bytes(raw.body))
        except (NotUnderstood, TypeError) as error:
            self._pass_over(str(error))
            return
        if message.origin == self._origin:
            self._came_back()
        elif self._is_next(message):
            self._carry_out(message)

    def _is_next(self, message: Message) -> bool:
        """Count what the message's number tells, and return whether there is something to carry out."""
        arrival = self._origins.arrived(message)
        if arrival.repeat:
            self._metrics.queue_repeats.inc()
        if arrival.missing:
            self._metrics.queue_holes.inc(arrival.missing)
            if self._rarely("hole"):
                logger.warning("%d messages of another process did not arrive by the message queue", arrival.missing)
            self._missed()
        return not arrival.repeat and message.kind != messages.ALIVE

    def _carry_out(self, message: Message) -> None:
        if message.kind not in messages.KINDS:
            self._pass_over("a message of an unknown kind")
            return
        try:
            self._receive(message)
        # A message that another version of us sent, or that nobody of us sent, must not end the subscription.
        except Exception:
            self._metrics.queue_ignored.inc()
            if self._rarely("failure"):
                logger.exception("a message of the queue could not be carried out")

    def _pass_over(self, what: str) -> None:
        self._metrics.queue_ignored.inc()
        if self._rarely("passed over"):
            logger.error("passed over %s in the message queue", what)

    def _send_waiting(self, connection: Connection) -> None:
        send = sender(connection, self._channel)
        self._send_alive(send)
        self._pauses["sender"] = FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            while (first := self.backlog.first()) is not None and not self._closing.is_set():
                self._send_first(send, *first)
            self._something.clear()
            if not len(self.backlog):
                self._idle(connection, send)

    def _idle(self, connection: Connection, send: Callable[[bytes], None]) -> None:
        interval = self._deadlines.probe if self.subscribed.is_set() else _SUBSCRIBING_SECONDS
        if not self._something.wait(max(0.0, self._sent_at + interval - monotonic())):
            self._send_alive(send)
        if connection.supports_heartbeats:
            connection.heartbeat_check()

    def _send_alive(self, send: Callable[[bytes], None]) -> None:
        with self._lock:
            first = self.backlog.first()
            number = self._number if first is None else first[0] - 1
        send(messages.envelope(self._origin, number, messages.ALIVE, messages.dump({})))
        self._sent()

    def _send_first(self, send: Callable[[bytes], None], number: int, body: bytes) -> None:
        try:
            send(body)
        except Exception as error:
            if self._is_refused(number):
                self._remove_first()
                self._metrics.queue_dropped("refused")
                if self._rarely("refused"):
                    logger.error(
                        "the message broker refuses a message of %d bytes: dropped for the other processes: %s",
                        len(body),
                        describe(error, self._url),
                    )
            raise
        self._remove_first()
        self._sent()
        self._full = False

    def _is_refused(self, number: int) -> bool:
        """Count a failure of that message; whether it is the last, each after a message that the broker took."""
        last, attempts = self._attempts
        self._attempts = (number, attempts + 1 if number == last else 1)
        return self._attempts[1] >= MAX_ATTEMPTS

    def _remove_first(self) -> None:
        with self._lock:
            self.backlog.remove_first()
            if not len(self.backlog):
                self._empty.set()

    def _sent(self) -> None:
        self._sent_at = monotonic()
        if self._unseen_since is None:
            self._unseen_since = self._sent_at
