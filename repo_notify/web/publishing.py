"""Requests to publish: their key, their limits, their answers (spec section 5).

They come by `POST /notify/events`, whichever framework reads that, and over the publishers' connections.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Mapping, Sequence
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
    400: "a request to publish was refused with 400: its events are not valid, or are none; the first mistake: %s",
    401: "a request to publish was refused with 401: its key is not the REPO_NOTIFY_API_KEY of this service",
    404: "a request to publish was refused with 404: publishing is off, as REPO_NOTIFY_API_KEY is not set",
    413: "a request to publish was refused with 413: larger than REPO_NOTIFY_MAX_EVENT_BYTES, or too many events",
    503: "a request to publish was answered with 503: the history's store did not take its events in time",
}

# How much of a publisher's mistake is logged, in characters.
_SHOWN = 300
# The one event that publishers send.
PUBLISH = "publish"
_WHAT = "publishing"
_AN_EVENT = "an event or an array of events"
_IN_HEADER = "Authorization should be `Bearer ` and the REPO_NOTIFY_API_KEY"
_IN_AUTH = "auth should be {key: …} with the REPO_NOTIFY_API_KEY"

# Reads at most so many bytes of a request's body.
Read = Callable[[int], bytes]

_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


class JsonAnswer(NamedTuple):
    """An answer as any framework can give it: status, the content of its JSON, and headers besides those of a body."""

    status: int
    content: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """The content as the body of an HTTP answer."""
        return _encode(self.content).encode() + b"\n"


def problem(status: int, message: str) -> JsonAnswer:
    """Return an answer that says what is wrong."""
    return JsonAnswer(status, {"errors": [{"message": message}]})


def refusal_without(key: str | None, authorization: str, what: str) -> JsonAnswer | None:
    """Return the answer to a request whose `Authorization` does not hold the API key, None to one that does."""
    scheme, _, given = authorization.partition(" ")
    return _refusal(key, given.strip() if scheme.lower() == "bearer" else None, what, _IN_HEADER)


def _refusal(key: str | None, given: str | None, what: str, wanted: str) -> JsonAnswer | None:
    if key is None:
        return problem(404, f"{what} is off: REPO_NOTIFY_API_KEY is not set")
    # JSON may hold half a surrogate pair, which UTF-8 has no form for.
    if given is not None and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), key.encode()):
        return None
    return problem(401, wanted)._replace(headers=(("WWW-Authenticate", "Bearer"),))


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
        refusal = refusal_without(self._key, authorization, _WHAT)
        return self._noted(refusal if refusal is not None else self._read(length, read))

    def refusal(self, auth: Any) -> str | None:
        """Return why a connection that brings this `auth` may not publish, None where it may; counted and logged."""
        given = auth.get("key") if isinstance(auth, dict) else None
        refusal = _refusal(self._key, given if isinstance(given, str) else None, _WHAT, _IN_AUTH)
        if refusal is None:
            return None
        message: str = self._noted(refusal).content["errors"][0]["message"]
        return message

    def acknowledge(self, event: Any, arguments: Sequence[Any], size: int | None) -> Mapping[str, Any]:
        """Publish what an event of such a connection brings, of `size` bytes where that is known.

        Returns the acknowledgement, which is what the body of the same answer over HTTP holds. Never raises: there is
        no other answer to a publisher.
        """
        try:
            return self._noted(self._take(event, arguments, size)).content
        except Exception:
            logger.exception("what a connection of a publisher sent could not be published")
            return problem(500, "the events could not be published; the log of the service says why").content

    def _noted(self, answer: JsonAnswer) -> JsonAnswer:
        status = answer.status
        self._metrics.publish_request(str(status))
        if status in _REFUSED and self._rarely(str(status)):
            # Who did not ask for an acknowledgement hears of it nowhere else.
            mistake = (_encode(answer.content["errors"][0])[:_SHOWN],) if status == 400 else ()
            logger.warning(_REFUSED[status], *mistake)
        return answer

    def _take(self, event: Any, arguments: Sequence[Any], size: int | None) -> JsonAnswer:
        if event != PUBLISH or len(arguments) != 1:
            return problem(400, f"the one event here is `{PUBLISH}`, with one argument: {_AN_EVENT}")
        if size is not None and size > self._limit:
            return problem(413, f"a message should be of at most {self._limit} bytes (REPO_NOTIFY_MAX_EVENT_BYTES)")
        return self._publish(arguments[0])

    def _read(self, length: int | None, read: Read) -> JsonAnswer:
        body = self._body(length, read)
        if body is None:
            return problem(413, f"the body should be of at most {self._limit} bytes (REPO_NOTIFY_MAX_EVENT_BYTES)")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return _invalid([{"index": 0, "fields": {"": f"a JSON document: {_AN_EVENT}"}}])
        return self._publish(document)

    def _body(self, length: int | None, read: Read) -> bytes | None:
        """Return the request's body, or None when it is over the limit, which is seen before it is all read."""
        if length is not None and length > self._limit:
            return None
        body = read(self._limit + 1 if length is None else length)
        return body if len(body) <= self._limit else None

    def _publish(self, document: Any) -> JsonAnswer:
        documents = document if isinstance(document, list) else [document]
        if len(documents) > MAX_EVENTS:
            return problem(413, f"an array should hold at most {MAX_EVENTS} events")
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
        return JsonAnswer(202, {"accepted": len(found)})


def _invalid(errors: list[dict[str, Any]]) -> JsonAnswer:
    return JsonAnswer(400, {"errors": errors})
