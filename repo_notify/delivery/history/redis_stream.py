"""The stream in Redis by which the processes of one service have one history.

Scripts keep names and numbers right, however many processes write: a message that is there already, as an answer was
lost or several processes heard of it, is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from time import time
from typing import Any, NamedTuple

from .log import MAX_FORGOTTEN_ROOMS
from .redis import Service, within
from .store import StoreUnavailable

# How long a reader waits for something new; less than a call may take.
BLOCK_SECONDS = 1.0
# How long it is known which was the last message of a process, and that one was offered by several: longer than it may
# take until that is sent once more.
ORIGIN_SECONDS, OFFERED_SECONDS = 86_400, 120
PAGE = 200

_BEGIN = """
local name = redis.call('HGET', KEYS[1], 'name')
if not name or name == ARGV[1] then
    redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
    redis.call('HSET', KEYS[1], 'name', ARGV[2], 'begun', ARGV[3], 'number', ARGV[3])
end
return 1
"""
# Numbers are kept as text: a double has room for all of them, but Lua would write them with an exponent.
_ADD = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local now = redis.call('TIME')
local at = now[1] .. string.format('%06d', now[2])
local entered = redis.call('GET', KEYS[4])
for i = 3, #ARGV, 6 do
    local origin, sent, body, offered = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3] == '1'
    local entry, mark = ARGV[i + 4], ARGV[i + 5]
    local is_new
    if entry ~= '' and entry ~= entered then
        is_new = false
    elseif offered then
        is_new = redis.call('SET', KEYS[3] .. origin .. ':' .. sent, '', 'NX', 'EX', ARGV[2])
    else
        is_new = tonumber(sent) > tonumber(redis.call('GET', KEYS[3] .. origin) or '0')
    end
    if is_new then
        local number = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'number', 1))
        redis.call('XADD', KEYS[2], number .. '-0', 'at', at, 'body', body)
        if not offered then redis.call('SET', KEYS[3] .. origin, sent, 'EX', ARGV[1]) end
        if entry ~= '' then redis.call('HINCRBY', KEYS[5], mark, 1) end
    end
end
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '1' then redis.call('DEL', KEYS[2]) end
for i = 4, #ARGV do
    if redis.call('HINCRBY', KEYS[2], ARGV[i], -1) <= 0 then redis.call('HDEL', KEYS[2], ARGV[i]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
"""
# Of each room that has lost events: the last one's message. Of further rooms it is believed of all until `floor`.
_TRIM = """
for i = 3, #ARGV, 2 do redis.call('ZADD', KEYS[3], 'GT', ARGV[i + 1], ARGV[i]) end
local many = redis.call('ZCARD', KEYS[3]) - ARGV[2]
if many > 0 then
    local last = redis.call('ZRANGE', KEYS[3], many - 1, many - 1, 'WITHSCORES')
    redis.call('HSET', KEYS[1], 'floor', string.format('%.0f', last[2]))
    redis.call('ZREMRANGEBYRANK', KEYS[3], 0, many - 1)
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[1])
return 1
"""


class Meta(NamedTuple):
    """What a history is called, the number before its first message, and that of its last.

    Until the message `floor` it is not known in which rooms something was that is not there any more.
    """

    name: str
    begun: int
    number: int
    floor: int


class Read(NamedTuple):
    """One message of the stream: its number, when it was added in seconds since 1970, and what it is."""

    number: int
    at: float
    body: bytes


class Waiting(NamedTuple):
    """A message that the stream is to have: who sent it, its number there, and what it is.

    One process sends its own in order; one that is `offered` may come from several, which know different ones. One that
    came by a queue names the `entry` by which it did, and has a `mark` until it is released.
    """

    origin: str
    number: int
    body: bytes
    offered: int = 0
    entry: str = ""
    mark: str = ""


class RedisStream:
    """The stream of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._client = service.client
        scripts = (_BEGIN, _ADD, _RELEASE, _TRIM)
        self._begin, self._add, self._release, self._trim = map(self._client.register_script, scripts)

    def meta(self) -> Meta | None:
        """Return what the history is called and where it is; None where there is none."""
        with within():
            found: Any = self._client.hgetall(self._service.meta)
        if not found:
            return None
        begun, number = int(found[b"begun"]), int(found[b"number"])
        return Meta(found[b"name"].decode(), begun, number, int(found.get(b"floor", begun)))

    def begin(self, name: str, *, above: int, instead: str = "") -> None:
        """Begin a history of that name where there is none, or one called `instead`, with numbers `above` that one.

        They are above those of any history before, too, if clocks are right.
        """
        begun = max(above, int(time() * 1e6))
        keys = [self._service.meta, self._service.stream, self._service.trimmed]
        with within():
            self._begin(keys=keys, args=[instead, name, begun])

    def add(self, messages: Sequence[Waiting]) -> bool:
        """Add messages, in order, but for those of an entry that others followed; return False without a history."""
        service = self._service
        keys = [service.meta, service.stream, service.origins, service.inlet, service.marks]
        args = [part for message in messages for part in message]
        with within():
            return bool(self._add(keys=keys, args=[ORIGIN_SECONDS, OFFERED_SECONDS, *args]))

    def enter(self, entry: str) -> dict[str, int]:
        """Have messages of this entry alone be added from now on; return how often each mark was not released."""
        with within(), self._client.pipeline() as pipeline:
            pipeline.set(self._service.inlet, entry, ex=ORIGIN_SECONDS)
            pipeline.hgetall(self._service.marks)
            found: Any = pipeline.execute()[1]
        return {mark.decode(): int(number) for mark, number in found.items()}

    def is_last(self, entry: str) -> bool:
        """Return whether no other entry has followed: everything that it has added is there."""
        with within():
            found: Any = self._client.get(self._service.inlet)
        return bool(found == entry.encode())

    def release(self, entry: str, marks: Sequence[str], *, is_all: bool) -> bool:
        """Forget that messages with these marks were added, or any with `is_all`.

        Returns False, and forgets none, where another entry has followed.
        """
        keys = [self._service.inlet, self._service.marks]
        args: list[str | int] = [entry, ORIGIN_SECONDS, int(is_all), *([] if is_all else marks)]
        with within():
            return bool(self._release(keys=keys, args=args))

    def forget_marks(self) -> None:
        """Forget every mark: the queue whose messages had them is there no more."""
        with within():
            self._client.delete(self._service.marks)

    def after(self, number: int) -> list[Read]:
        """Return what comes after that number, the first of it; wait for that for a moment."""
        milliseconds = int(BLOCK_SECONDS * 1000)
        with within():
            found: Any = self._client.xread({self._service.stream: f"{number}-0"}, count=PAGE, block=milliseconds)
        return [_read(entry) for _, entries in found for entry in entries]

    def between(self, number: int, until: int) -> Iterator[Read]:
        """Yield what comes after that number, until the other."""
        while True:
            with within():
                found: Any = self._client.xrange(self._service.stream, f"{number + 1}-0", f"{until}-0", count=PAGE)
            for entry in found:
                yield _read(entry)
            if len(found) < PAGE:
                return
            number = _read(found[-1]).number

    def trim(self, first: int, lost: Mapping[str, int]) -> None:
        """Drop what is before a message, which no process keeps any more.

        `lost` are the rooms of it, each with its last message there.
        """
        keys = [self._service.meta, self._service.stream, self._service.trimmed]
        args = [part for room, message in lost.items() for part in (json.dumps(room), message)]
        with within():
            self._trim(keys=keys, args=[first, MAX_FORGOTTEN_ROOMS, *args])

    def trimmed(self) -> list[tuple[str, int]]:
        """Return each room that has lost events, with the last one's message, in the order of those."""
        with within():
            found: Any = self._client.zrange(self._service.trimmed, 0, -1, withscores=True)
        return [(json.loads(room), int(message)) for room, message in found]

    def answers(self) -> bool:
        """Return whether Redis answers at all."""
        try:
            with within():
                return bool(self._client.ping())
        except StoreUnavailable:
            return False


def _read(entry: tuple[bytes, dict[bytes, bytes]]) -> Read:
    number, fields = entry
    return Read(int(number.partition(b"-")[0]), int(fields[b"at"]) / 1e6, fields[b"body"])
