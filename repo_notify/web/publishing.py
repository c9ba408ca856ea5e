"""`POST /notify/events`: its key, its limits, its answers (spec section 5), whichever framework reads the request."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from repo_notify.errors import InvalidEvent
from repo_notify.events import Event
from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics
from repo_notify.protocol.validation import from_json
from repo_notify.settings import Settings

logger = logging.getLogger(__name__)

MAX_EVENTS = 1_000

NOT_STORED = (
    "the events were delivered, but the history's store did not take them in time, so that clients which are away may "
    "miss them after a restart; sent again, they are delivered again"
)

# What an operator should hear of, by status; whoever asks has been told more.
_REFUSED = {
    400: "a request to publish was refused with 400: its events are not valid; the answer names the fields",
    401: "a request to publish was refused with 401: its key is not the REPO_NOTIFY_API_KEY of this service",
    404: "a request to publish was refused with 404: publishing over HTTP is off, as REPO_NOTIFY_API_KEY is not set",
    413: "a request to publish was refused with 413: larger than REPO_NOTIFY_MAX_EVENT_BYTES, or too many events",
    503: "a request to publish was answered with 503: the history's store did not take its events in time",
}

# Reads at most so many bytes of a request's body.
Read = Callable[[int], bytes]


class JsonAnswer(NamedTuple):
    """An answer as any framework can give it: status, a body of JSON, and headers besides those of the body."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def problem(status: int, message: str) -> JsonAnswer:
    """Return an answer that says what is wrong."""
    return JsonAnswer(status, _json({"errors": [{"message": message}]}))


def refusal_without(key: str | None, authorization: str, what: str) -> JsonAnswer | None:
    """Return the answer to a request whose `Authorization` does not hold the API key, None to one that does."""
    if key is None:
        return problem(404, f"{what} is off: REPO_NOTIFY_API_KEY is not set")
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode()):
        return None
    refusal = problem(401, "Authorization should be `Bearer ` and the REPO_NOTIFY_API_KEY")
    return refusal._replace(headers=(("WWW-Authenticate", "Bearer"),))


class Publishing:
    """Answers the requests to publish of one app.

    `send` publishes checked events and returns whether they are in the history's store.
    """

    def __init__(self, settings: Settings, send: Callable[[Sequence[Event]], bool], metrics: Metrics) -> None:
        self._key, self._limit = settings.api_key, settings.max_event_bytes
        self._send, self._metrics = send, metrics
        self._rarely = Rarely()

    def answer(self, authorization: str, length: int | None, read: Read) -> JsonAnswer:
        """Publish what a request brings, count it, and log what an operator should hear of.

        `length` is the body's, None where the request does not say it; `read` is called once the key is right.
        """
        found = self._answer(authorization, length, read)
        self._metrics.publish_request(str(found.status))
        if found.status in _REFUSED and self._rarely(str(found.status)):
            logger.warning(_REFUSED[found.status])
        return found

    def _answer(self, authorization: str, length: int | None, read: Read) -> JsonAnswer:
        if (refusal := refusal_without(self._key, authorization, "publishing over HTTP")) is not None:
            return refusal
        body = self._body(length, read)
        if body is None:
            return problem(413, f"the body should be of at most {self._limit} bytes (REPO_NOTIFY_MAX_EVENT_BYTES)")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return _invalid([{"index": 0, "fields": {"": "a JSON document: an event or an array of events"}}])
        documents = document if isinstance(document, list) else [document]
        if len(documents) > MAX_EVENTS:
            return problem(413, f"an array should hold at most {MAX_EVENTS} events")
        return self._publish(documents)

    def _body(self, length: int | None, read: Read) -> bytes | None:
        """Return the request's body, or None when it is over the limit, which is seen before it is all read."""
        if length is not None and length > self._limit:
            return None
        body = read(self._limit + 1 if length is None else length)
        return body if len(body) <= self._limit else None

    def _publish(self, documents: list[Any]) -> JsonAnswer:
        found: list[Event] = []
        errors: list[dict[str, Any]] = []
        for index, document in enumerate(documents):
            try:
                found.append(from_json(document))
            except InvalidEvent as invalid:
                errors.append({"index": index, "fields": invalid.fields})
        if errors:
            return _invalid(errors)
        if not self._send(found):
            return problem(503, NOT_STORED)
        return JsonAnswer(202, b'{"accepted":%d}\n' % len(found))


def _invalid(errors: list[dict[str, Any]]) -> JsonAnswer:
    return JsonAnswer(400, _json({"errors": errors}))


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode() + b"\n"
