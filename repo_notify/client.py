"""Publishing from outside the service: over HTTP and through the message queue."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from http.client import HTTPException
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from .delivery import messages
from .delivery.broker import Deadlines, connect, describe, leave, require_libraries, sender
from .errors import InvalidEvent, NotifyError, QueueUnavailable
from .events import Event
from .protocol.validation import checked, from_json
from .settings import read

if TYPE_CHECKING:
    from kombu import Connection

TIMEOUT_SECONDS = 10


class PublishingFailed(NotifyError):
    """The service did not take the events; the text says why."""


def over_http(url: str, key: str | None, document: Any, *, prefix: str = "/notify") -> int:
    """Post an event or an array of events to the service at `url`; return how many it accepted.

    Raises `PublishingFailed` with the service's answer.
    """
    if not url.startswith(("http://", "https://")):
        raise PublishingFailed(f"{url} should be an http:// or https:// address")
    try:
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
            f"{url.rstrip('/')}{prefix}/events",
            data=json.dumps(document).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {key or ''}"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
            return int(json.load(answer)["accepted"])
    except urllib.error.HTTPError as error:
        with error:
            raise PublishingFailed(f"{url} answered {error.code}: {error.read().decode(errors='replace')}") from None
    except urllib.error.URLError as error:
        raise PublishingFailed(f"{url} cannot be reached: {error.reason}") from None
    except OSError as error:
        raise PublishingFailed(f"{url} cannot be reached: {error}") from None
    # An address that is none, an answer that is no HTTP, or none of ours.
    except (HTTPException, ValueError, KeyError, TypeError) as error:
        raise PublishingFailed(f"{url} does not answer as the service would: {error}") from None


# A connection that nobody uses must not be closed for want of heartbeats; a dead one shows at the next write.
_DEADLINES = Deadlines(heartbeat=0)
# Tries on fresh connections: receivers drop repeats, so that what may have arrived is sent again.
_ATTEMPTS = 2


class QueuePublisher:
    """Publishes from a process without a server, by way of the message queue alone.

    `url` and `channel` are the service's REPO_NOTIFY_MESSAGE_QUEUE and REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL; raises
    `SettingsError` when they cannot be. The connection is opened by the first `publish`, kept, and opened again when
    the broker has ended it; `close`, or a `with` block, closes it. Threads may share a publisher; a forked process gets
    a connection and publishes under a name of its own.
    """

    def __init__(self, url: str, *, channel: str = "repo_notify") -> None:
        read({"REPO_NOTIFY_MESSAGE_QUEUE": url, "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": channel})
        require_libraries(url)
        self._url, self._channel = url, channel
        self._lock = threading.Lock()
        self._pid, self._origin, self._numbers = 0, "", itertools.count(1)
        self._line: _Line | None = None
        self._inherited: list[_Line] = []

    def publish(self, *events: Event) -> None:
        """Publish events in order; none asks the broker for a sign of life.

        Raises `InvalidEvent` naming the wrong fields (nothing is published then) and `QueueUnavailable` when the
        broker cannot be reached.
        """
        self.send([checked(event) for event in events])

    def send(self, events: Sequence[Event]) -> None:
        """As `publish`, for events that were checked and hold plain values."""
        dumped = [messages.dump_event(event) for event in events]
        # One after the other: receivers take a lower number than the last for a repeat.
        with self._lock:
            self._begin_in_this_process()
            left = deque(messages.envelope(self._origin, next(self._numbers), messages.EVENT, text) for text in dumped)
            # Nothing is wrong with the broker when a connection has ended that was kept from before.
            for _ in range(_ATTEMPTS if self._line is not None else _ATTEMPTS - 1):
                if self._is_sent(left):
                    return
            self._send_at_last(left)

    def close(self) -> None:
        """Close the connection; a later `publish` opens another one."""
        with self._lock:
            self._begin_in_this_process()
            self._leave(working=True)

    def __enter__(self) -> QueuePublisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_in_this_process(self) -> None:
        if self._pid == os.getpid():
            return
        self._pid, self._origin, self._numbers = os.getpid(), secrets.token_hex(8), itertools.count(1)
        if self._line is not None:
            # The parent's: kept, as py-amqp ends a connection that is collected, in the parent, too.
            self._inherited.append(self._line)
            self._line = None

    def _is_sent(self, left: deque[bytes]) -> bool:
        # Each transport raises its own kinds.
        with contextlib.suppress(Exception):
            self._send(left)
            return True
        return False

    def _send_at_last(self, left: deque[bytes]) -> None:
        try:
            self._send(left)
        # Each transport raises its own kinds.
        except Exception as error:
            text = describe(error, self._url)
            raise QueueUnavailable(f"the message queue cannot be reached: {text}") from error

    def _send(self, left: deque[bytes]) -> None:
        try:
            if self._line is None:
                connection = connect(self._url, _DEADLINES)
                self._line = _Line(connection, sender(connection, self._channel))
            while left:
                self._line.send(left[0])
                left.popleft()
        except BaseException:
            self._leave(working=False)
            raise

    def _leave(self, *, working: bool) -> None:
        line, self._line = self._line, None
        if line is not None:
            leave(line.connection, _DEADLINES, working=working)


class _Line(NamedTuple):
    """An open connection to the broker, and what publishes by it."""

    connection: Connection
    send: Callable[[bytes], None]


def over_queue(queue: str, channel: str, document: Any) -> int:
    """Publish an event or an array of events through the message queue; return how many there were.

    Raises `InvalidEvent` naming the wrong fields, `SettingsError` for a wrong address and `QueueUnavailable`.
    """
    events = _events(document) if isinstance(document, list) else [from_json(document)]
    with QueuePublisher(queue, channel=channel) as publisher:
        publisher.send(events)
    return len(events)


def _events(documents: list[Any]) -> list[Event]:
    found = []
    for index, document in enumerate(documents):
        try:
            found.append(from_json(document))
        except InvalidEvent as error:
            raise InvalidEvent(f"event {index}", error.fields) from None
    return found
