"""Publishing from outside the service: over HTTP and through the message queue."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any

from .delivery import messages
from .delivery.broker import Deadlines, connect, describe, leave, require_libraries, sender
from .errors import InvalidEvent, NotifyError, QueueUnavailable
from .events import Event
from .protocol.validation import checked, from_json
from .settings import read

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


class QueuePublisher:
    """Publishes from a process without a server, by way of the message queue alone.

    `url` and `channel` are the service's REPO_NOTIFY_MESSAGE_QUEUE and REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL; raises
    `SettingsError` when they cannot be. Threads may share one; a forked process publishes under a name of its own.
    """

    def __init__(self, url: str, *, channel: str = "repo_notify") -> None:
        read({"REPO_NOTIFY_MESSAGE_QUEUE": url, "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": channel})
        require_libraries(url)
        self._url, self._channel = url, channel
        self._lock = threading.Lock()
        self._pid, self._origin, self._numbers = 0, "", itertools.count(1)

    def publish(self, *events: Event) -> None:
        """Publish events in order.

        Raises `InvalidEvent` naming the wrong fields (nothing is published then) and `QueueUnavailable` when the
        broker cannot be reached.
        """
        self.send([checked(event) for event in events])

    def send(self, events: Sequence[Event]) -> None:
        """As `publish`, for events that were checked and hold plain values."""
        dumped = [messages.dump_event(event) for event in events]
        # One after the other: receivers take a lower number than the last for a repeat.
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._origin, self._numbers = os.getpid(), secrets.token_hex(8), itertools.count(1)
            left = deque(messages.envelope(self._origin, next(self._numbers), messages.EVENT, text) for text in dumped)
            try:
                self._send(left)
            # Each transport raises its own kinds; tried once more, since receivers drop repeats.
            except Exception:  # noqa: BLE001 - as above
                self._send_again(left)

    def _send_again(self, left: deque[bytes]) -> None:
        try:
            self._send(left)
        # Each transport raises its own kinds.
        except Exception as error:
            text = describe(error, self._url)
            raise QueueUnavailable(f"the message queue cannot be reached: {text}") from error

    def _send(self, left: deque[bytes]) -> None:
        deadlines = Deadlines()
        connection = connect(self._url, deadlines)
        working = False
        try:
            send = sender(connection, self._channel)
            while left:
                send(left[0])
                left.popleft()
            working = True
        finally:
            leave(connection, deadlines, working=working)


def over_queue(queue: str, channel: str, document: Any) -> int:
    """Publish an event or an array of events through the message queue; return how many there were.

    Raises `InvalidEvent` naming the wrong fields, `SettingsError` for a wrong address and `QueueUnavailable`.
    """
    events = _events(document) if isinstance(document, list) else [from_json(document)]
    QueuePublisher(queue, channel=channel).send(events)
    return len(events)


def _events(documents: list[Any]) -> list[Event]:
    found = []
    for index, document in enumerate(documents):
        try:
            found.append(from_json(document))
        except InvalidEvent as error:
            raise InvalidEvent(f"event {index}", error.fields) from None
    return found
