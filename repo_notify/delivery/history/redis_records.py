"""Session records in Redis: every process of a service finds those of the others, also of those that were killed."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping
from time import time
from typing import Any, NamedTuple

from . import places
from .packing import Packed, key_of, pack_record, unpack_record
from .records import Record
from .redis import Service, within
from .store import StoreUnavailable

_SAVE = """
local now = redis.call('TIME')
local at = now[1] .. '.' .. string.format('%06d', now[2])
local deleted = tonumber(ARGV[2])
local ended = tonumber(ARGV[3])
for i = 5, 4 + deleted do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = 5 + deleted, 4 + deleted + ended do redis.call('ZADD', KEYS[2], at, ARGV[i]) end
for i = 5 + deleted + ended, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], at .. ' ' .. ARGV[i + 1]) end
redis.call('ZADD', KEYS[3], now[1], ARGV[4])
for i = 1, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[1]) end
return 1
"""
_BEAT = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
for i = 1, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
return 1
"""
_FIND = """
for _, process in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local found = redis.call('HGET', KEYS[2] .. process, ARGV[1])
    if found then
        return {process, redis.call('ZSCORE', KEYS[1], process), found, redis.call('TIME')[1]}
    end
end
return false
"""


class Found(NamedTuple):
    """The record of a client, and the process that keeps it."""

    process: str
    record: Record


class RedisRecords:
    """The records of one `process`, which it writes, and a way to those of the others."""

    def __init__(self, service: Service, process: str) -> None:
        self._service = service
        self._client = service.client
        self._process = process
        register = self._client.register_script
        self._save, self._beat, self._find = register(_SAVE), register(_BEAT), register(_FIND)

    @property
    def _own(self) -> str:
        return self._service.records + self._process

    def beat(self) -> None:
        """Take note that the process lives."""
        found = self._service
        keys = [found.processes, found.ended, found.meta, found.stream, found.trimmed, self._own]
        with within():
            self._beat(keys=keys, args=[self._process, found.ttl])

    def save(self, records: Mapping[str, Record | None], sessions: Collection[str]) -> None:
        """Write records, delete those that are None, and take note that these sessions have ended."""
        deleted = [key for key, record in records.items() if record is None]
        ended = [key_of(found) for found in sessions]
        written = [part for key, record in records.items() if record is not None for part in (key, _pack(record))]
        with within():
            self._save(
                keys=[self._own, self._service.ended, self._service.processes],
                args=[self._service.ttl, len(deleted), len(ended), self._process, *deleted, *ended, *written],
            )

    def find(self, pid: str, key: str) -> Found | None:
        """Return the record of a client, whichever process keeps it."""
        with within():
            found: Any = self._find(keys=[self._service.processes, self._service.records], args=[key])
            if not found:
                return None
            process, beat, value, now = found
            written, _, text = value.partition(b" ")
            at, session, record = _unpack(pid, text, alive_at=float(beat))
            ended: Any = self._client.zscore(self._service.ended, session) if session else None
        if float(now) - at > self._service.seconds or (ended is not None and float(ended) >= float(written)):
            return None
        return Found(process.decode(), record)

    def take(self, process: str, key: str) -> bool:
        """Delete a record that a process keeps; return whether it was there still."""
        with within():
            return bool(self._client.hdel(self._service.records + process, key))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _pack(record: Record) -> str:
    packed = pack_record(record)
    session = key_of(record.session_id) if record.session_id is not None else None
    binaries = [base64.b64encode(found).decode("ascii") for found in packed.binaries]
    return json.dumps([None if record.live else time(), session, packed.text, packed.mark, binaries])


def _unpack(pid: str, text: bytes, *, alive_at: float) -> tuple[float, str | None, Record]:
    """Return when its connection ended, its session's key, and the record as this process understands it."""
    try:
        ended, session, packed, mark, binaries = json.loads(text)
        # Its process says nothing of a connection that it still has, or had when it was last alive.
        at = alive_at if ended is None else float(ended)
        record = unpack_record(pid, at, Packed(packed, mark, [base64.b64decode(found) for found in binaries]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreUnavailable(f"a record that is none of this service: {error!r}") from error
    record.rooms = {room: places.shared(place) for room, place in record.rooms.items()}
    record.replaying = {room: places.shared(place) for room, place in record.replaying.items()}
    record.since, record.number = places.shared(record.since), places.shared(record.number)
    return at, session, record
