"""The way into the stream for what a queue outside brings: each message once, whichever process consumes the queue.

One process at a time does, and acknowledges a message when the stream has it; who takes over gets those again that were
not acknowledged. So each message is marked in the stream's Redis from its addition until just after its
acknowledgement. A mark is made of the body alone: messages that are alike to the byte are alike to everybody, and are
counted. Who dies between the two leaves marks of messages that do not come again. Whoever has nothing left to
acknowledge removes them; a message of that very body that comes again before is taken for one of them.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from . import messages
from .history.redis_stream import RedisStream
from .stream import Stream
from .stream_sender import Ticket

_SUPERSEDED = "another process consumes the backend's messages now"


class Superseded(Exception):
    """Another process has entered since; what this one brings is not added any more."""


class Brought(NamedTuple):
    """A message that the stream is to have; without a ticket it was there already."""

    mark: str
    ticket: Ticket | None


class Inlet:
    """What the processes of a service bring into one stream; `enter` begins anew with each subscription."""

    def __init__(self, stream: Stream, redis: RedisStream) -> None:
        self._stream, self._redis = stream, redis

    def enter(self) -> Entry:
        """Be the one that brings, in the place of whoever was; raises `StoreUnavailable`."""
        name = secrets.token_hex(8)
        return Entry(self._stream, self._redis, name, Counter(self._redis.enter(name)))

    def renewed(self) -> None:
        """Take note that the queue is a new one: what was published before may be lost. Raises `StoreUnavailable`."""
        self._stream.lose()
        self._redis.forget_marks()


class Entry:
    """One subscription's way in; `marks` are those of messages that were not acknowledged when it began."""

    def __init__(self, stream: Stream, redis: RedisStream, name: str, marks: Counter[str]) -> None:
        self._stream, self._redis, self._name = stream, redis, name
        self._marks = marks

    def bring(self, body: bytes, *, again: bool) -> Brought | None:
        """Have a message, a JSON object, added, unless it was; None where too much waits for the stream.

        `again`: it was delivered before, to whomever.
        """
        mark = blake2b(body, digest_size=16).hexdigest()
        if again and self._marks[mark] > 0:
            self._marks[mark] -= 1
            return Brought(mark, None)
        ticket = self._stream.bring(messages.dumped(body), entry=self._name, mark=mark)
        return None if ticket is None else Brought(mark, ticket)

    def has(self, brought: Brought) -> bool:
        """Return whether the stream has the message."""
        return brought.ticket is None or self._stream.has(brought.ticket)

    def confirm(self) -> None:
        """Make sure that the stream has what `has` says; raises `Superseded`, or `StoreUnavailable`."""
        if not self._redis.is_last(self._name):
            raise Superseded(_SUPERSEDED)

    def release(self, brought: Sequence[Brought], *, is_all: bool) -> None:
        """Take note that messages are acknowledged; raises as `confirm`. With `is_all` no other one waits for that."""
        if not self._redis.release(self._name, [each.mark for each in brought], is_all=is_all):
            raise Superseded(_SUPERSEDED)
