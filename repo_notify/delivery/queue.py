"""The message queue between the processes of one service: Redis or RabbitMQ, by kombu; JSON, never pickle.

What is sent is handed over at once and leaves in the background, in order. While the broker is out of reach it is kept,
up to a bound, and tried again with growing pauses; deliveries within the process do not wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.message import Message

from repo_notify.errors import QueueUnavailable
from repo_notify.events import Event
from repo_notify.metrics import Metrics
from repo_notify.protocol.validation import checked
from repo_notify.settings import read

logger = logging.getLogger(__name__)

# About a minute of a busy service; a broker that is away for longer is an outage, and memory is not for it.
MAX_WAITING = 10_000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
_DRAIN_SECONDS = 1.0
_HEARTBEAT_SECONDS = 10
_CONNECT_SECONDS = 3


def _exchange(channel: str) -> Exchange:
    return Exchange(channel, type="fanout", durable=False, auto_delete=False)


def _connection(url: str, heartbeat: int = 0) -> Connection:
    """Return a connection; only one that also reads may promise heartbeats, in seconds (0: none)."""
    options = {"confirm_publish": True} if url.startswith("amqp") else {"socket_connect_timeout": _CONNECT_SECONDS}
    return Connection(url, connect_timeout=_CONNECT_SECONDS, heartbeat=heartbeat, transport_options=options)


class Bus:
    """Sends messages to the other processes and hands theirs to `receive`.

    Nothing is started before the first use, so that a server may fork after the app was made.
    """

    def __init__(self, url: str, channel: str, metrics: Metrics) -> None:
        self._url, self._channel = url, channel
        # Set before the start.
        self.receive: Callable[[dict[str, Any]], None] = logger.debug
        self._metrics = metrics
        self._origin = secrets.token_hex(8)
        self._waiting: deque[dict[str, Any]] = deque()
        self._something = threading.Event()
        self._closing = threading.Event()
        self._subscribed = threading.Event()
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._problems: dict[str, str] = {}

    def start(self, wait: float = 0.0) -> None:
        """Begin in this process, unless that was done; wait up to `wait` seconds for the subscription."""
        with self._lock:
            started = self._pid == os.getpid()
            if not started:
                self._pid, self._origin = os.getpid(), secrets.token_hex(8)
                for name, work, beat in _WORK:
                    threading.Thread(
                        target=self._keep,
                        args=(name, partial(work, self), beat),
                        name=f"repo_notify-{name}",
                        daemon=True,
                    ).start()
        if not started and wait:
            self._subscribed.wait(wait)

    def send(self, message: dict[str, Any]) -> None:
        """Hand a message over for the other processes; the newest is given up when too many wait."""
        self.start()
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.queue_dropped.inc()
            logger.error("the message queue is out of reach for too long: an event does not reach the other processes")
            return
        self._waiting.append({**message, "origin": self._origin})
        self._something.set()

    def problem(self) -> str | None:
        """Return why the queue does not work right now, or None."""
        self.start(_CONNECT_SECONDS)
        if self._problems:
            return "; ".join(self._problems.values())
        return None if self._subscribed.is_set() else "the message queue has not answered yet"

    def close(self) -> None:
        """End the background work."""
        self._closing.set()
        self._something.set()

    def _keep(self, name: str, work: Callable[[Connection], None], heartbeat: int) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            connection = _connection(self._url, heartbeat)
            try:
                connection.ensure_connection(max_retries=1, timeout=_CONNECT_SECONDS)
                self._problems.pop(name, None)
                pause = FIRST_PAUSE_SECONDS
                work(connection)
            except Exception as error:  # noqa: BLE001 - each transport raises its own kinds; the queue is tried again
                if not self._problems:
                    logger.warning("the message queue cannot be reached: %s", error)
                self._problems[name] = f"the message queue cannot be reached ({type(error).__name__})"
                self._metrics.queue_errors.inc()
            finally:
                with contextlib.suppress(Exception):
                    connection.release()
            self._closing.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _listen(self, connection: Connection) -> None:
        name = f"{self._channel}.{self._origin}"
        queue = Queue(name, _exchange(self._channel), exclusive=True, auto_delete=True, durable=False)
        with connection.channel() as channel:
            consumer = Consumer(channel, [queue], callbacks=[self._received], accept=["json"], no_ack=True)
            consumer.on_decode_error = self._undecodable
            with consumer:
                self._drain(connection)

    def _drain(self, connection: Connection) -> None:
        self._subscribed.set()
        beaten = monotonic()
        try:
            while not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    connection.drain_events(timeout=_DRAIN_SECONDS)
                if connection.supports_heartbeats and monotonic() - beaten >= _DRAIN_SECONDS:
                    beaten = monotonic()
                    connection.heartbeat_check()
        finally:
            self._subscribed.clear()

    def _undecodable(self, _: Message, error: Exception) -> None:
        # Pickle, for one: nobody of us sent it, and it must not end the subscription either.
        logger.error("a message of the queue is passed over: %s", error)

    def _received(self, body: Any, _: Message) -> None:
        if not isinstance(body, dict) or body.get("origin") == self._origin:
            return
        try:
            self.receive(body)
        # A message that another version of us sent, or that nobody of us sent, must not end the subscription.
        except Exception:
            logger.exception("a message of the queue could not be carried out")

    def _send_waiting(self, connection: Connection) -> None:
        with connection.channel() as channel:
            producer = Producer(channel, _exchange(self._channel), serializer="json", auto_declare=True)
            while not self._closing.is_set():
                while self._waiting:
                    producer.publish(self._waiting[0])
                    self._waiting.popleft()
                self._something.clear()
                if not self._waiting:
                    self._something.wait()


# What is done in the background: its name, the work, and the heartbeat that its connection promises, in seconds.
_WORK: tuple[tuple[str, Callable[[Bus, Connection], None], int], ...] = (
    ("receiver", Bus._listen, _HEARTBEAT_SECONDS),
    ("sender", Bus._send_waiting, 0),
)


class QueuePublisher:
    """Publishes from a process without a server, by way of the message queue alone.

    `url` and `channel` are the service's REPO_NOTIFY_MESSAGE_QUEUE and REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL; raises
    `SettingsError` when they cannot be.
    """

    def __init__(self, url: str, *, channel: str = "repo_notify") -> None:
        read({"REPO_NOTIFY_MESSAGE_QUEUE": url, "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": channel})
        self._url, self._channel = url, channel

    def publish(self, *events: Event) -> None:
        """Publish events in order.

        Raises `InvalidEvent` naming the wrong fields (nothing is published then) and `QueueUnavailable` when the
        broker cannot be reached.
        """
        from .publisher import event_message

        messages = [event_message(checked(event)) for event in events]
        try:
            with _connection(self._url) as connection:
                connection.ensure_connection(max_retries=2, interval_start=0.2, timeout=_CONNECT_SECONDS)
                producer = Producer(connection.channel(), _exchange(self._channel), serializer="json")
                for message in messages:
                    producer.publish(message)
        # Each transport raises its own kinds.
        except Exception as error:
            raise QueueUnavailable(f"the message queue cannot be reached: {error}") from error
