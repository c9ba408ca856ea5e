"""Entries and session records as a store keeps them: JSON text, so that every value survives, and bytes beside it."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from time import monotonic, time
from typing import Any

from .records import Record
from .store import Stored

# Written apart, or counted by one run of the process for itself.
_APART = frozenset({"pid", "at", "unsent", "replayed", "totals", "live", "revived"})
_RECORD_FIELDS = tuple(field.name for field in fields(Record) if field.name not in _APART)


@dataclass(frozen=True)
class Packed:
    """A value as text. The bytes in it stand beside it; `mark` is the key under which the text has their places."""

    text: str
    mark: str = ""
    binaries: Sequence[bytes] = ()


def pack(value: Any) -> Packed:
    """Pack plain values: dicts with string keys, lists, strings, numbers, booleans, None and bytes."""
    binaries: list[bytes] = []
    # Nobody who publishes can know it, and so nobody's own data looks like a place.
    mark = secrets.token_hex(8)

    def place(found: object) -> dict[str, int]:
        if not isinstance(found, bytes | bytearray):
            raise TypeError(f"{type(found).__name__} cannot be stored")
        binaries.append(bytes(found))
        return {mark: len(binaries) - 1}

    # In ASCII: text may hold what is no UTF-8, and numbers may be larger than a database has them.
    text = json.dumps(value, default=place, separators=(",", ":"))
    return Packed(text, mark if binaries else "", binaries)


def unpack(packed: Packed) -> Any:
    """Return what was packed; tuples are lists."""
    if not packed.mark:
        return json.loads(packed.text)
    mark, binaries = packed.mark, packed.binaries

    def replace(found: dict[str, Any]) -> Any:
        return bytes(binaries[found[mark]]) if mark in found else found

    return json.loads(packed.text, object_hook=replace)


def pack_entry(entry: Stored) -> Packed:
    """Pack what an entry holds beside its number, time, rooms and size."""
    update = _sorted(entry.update) if entry.update is not None else None
    return pack([entry.name, entry.payload, entry.emitter, entry.named_by, update])


def unpack_entry(number: int, at: float, rooms: Sequence[str], size: int, packed: Packed | None) -> Stored:
    """Return the entry; without `packed` it is trimmed."""
    if packed is None:
        return Stored(number, at, tuple(rooms), size, trimmed=True)
    name, payload, emitter, named_by, update = unpack(packed)
    known = _hashable(update) if update is not None else None
    return Stored(number, at, tuple(rooms), size, name, payload, emitter, named_by, known)


def _sorted(update: Any) -> list[Any]:
    """Return what an update supersedes (`Entry.update`) as lists."""
    name, rooms, one, other, changed = update
    return [name, list(rooms), one, other, sorted(changed)]


def _hashable(update: Sequence[Any]) -> Hashable:
    name, rooms, one, other, changed = update
    return name, tuple(rooms), one, other, frozenset(changed)


def key_of(secret: str) -> str:
    """Return what stands for a secret in a store: whoever reads the store cannot come back as somebody else."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def pack_record(record: Record) -> Packed:
    """Pack a session record but for its secret and its time."""
    found = {name: getattr(record, name) for name in _RECORD_FIELDS}
    return pack({**found, "ids": sorted(record.ids)})


def unpack_record(pid: str, at: float, packed: Packed) -> Record:
    """Return the session record with that secret, whose connection ended at `at`, in seconds since 1970."""
    found: Mapping[str, Any] = unpack(packed)
    return Record(**{**found, "pid": pid, "ids": frozenset(found["ids"]), "at": monotonic_of(at), "revived": True})


def monotonic_of(at: float) -> float:
    """Return a time in seconds since 1970 in this process's monotonic seconds; none is in the future."""
    return monotonic() - max(0.0, time() - at)


def time_of(at: float) -> float:
    """Return a time in this process's monotonic seconds in seconds since 1970."""
    return time() - (monotonic() - at)
