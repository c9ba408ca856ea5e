"""Publishing from outside the service's process: over HTTP and through the message queue."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from .delivery.queue import QueuePublisher
from .errors import InvalidEvent, NotifyError
from .events import Event
from .protocol.validation import from_json

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


def over_queue(queue: str, channel: str, document: Any) -> int:
    """Publish an event or an array of events through the message queue; return how many there were.

    Raises `InvalidEvent` naming the wrong fields, `SettingsError` for a wrong address and `QueueUnavailable`.
    """
    events = _events(document) if isinstance(document, list) else [from_json(document)]
    QueuePublisher(queue, channel=channel).publish(*events)
    return len(events)


def _events(documents: list[Any]) -> list[Event]:
    found = []
    for index, document in enumerate(documents):
        try:
            found.append(from_json(document))
        except InvalidEvent as error:
            raise InvalidEvent(f"event {index}", error.fields) from None
    return found
