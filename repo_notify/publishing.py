"""Publishing from outside the service's process: over HTTP and through the message queue."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from .bus import QueuePublisher
from .errors import NotifyError
from .schemas import from_json

TIMEOUT_SECONDS = 10


class PublishingFailed(NotifyError):
    """The service did not take the events; the text says why."""


def over_http(url: str, key: str | None, document: Any, *, prefix: str = "/notify") -> int:
    """Post an event or an array of events to the service at `url`; return how many it accepted.

    Raises `PublishingFailed` with the service's answer.
    """
    if not url.startswith(("http://", "https://")):
        raise PublishingFailed(f"{url} should be an http:// or https:// address")
    request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
        f"{url.rstrip('/')}{prefix}/events",
        data=json.dumps(document).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key or ''}"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
            return int(json.load(answer)["accepted"])
    except urllib.error.HTTPError as error:
        with error:
            raise PublishingFailed(f"{url} answered {error.code}: {error.read().decode(errors='replace')}") from None
    except urllib.error.URLError as error:
        raise PublishingFailed(f"{url} cannot be reached: {error.reason}") from None


def over_queue(queue: str, channel: str, document: Any) -> int:
    """Publish an event or an array of events through the message queue; return how many there were.

    Raises `InvalidEvent` naming the wrong fields and `QueueUnavailable`.
    """
    documents = document if isinstance(document, list) else [document]
    events = [from_json(each) for each in documents]
    QueuePublisher(queue, channel=channel).publish(*events)
    return len(events)
