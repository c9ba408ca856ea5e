"""An event that is kept for who comes back is little more than its text, and is on the wire what it was."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from repo_notify.engine import Argument, EngineIO4
from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.outgoing import Outgoing
from repo_notify.sockets import PreparedPackets

legacy = pytest.importorskip("legacy_v4")

NAMESPACES = ("/", "/legacy_v4")
CODECS: tuple[Codec, ...] = (EngineIO4(), EngineIO4(ascii_only=True), *legacy.V4(namespace="/", names="first").codecs)
DATA: list[Any] = [
    None,
    {"_id": "1", "text": 'ü\u2028\U0001f600 [["{', "n": [1.5, -0.0, 1e300, 2**70], "lone": "\ud800"},
    [],
    "2[",
    {"binary": [b"\x00\xff", {"more": b""}]},
]


def wire(out: Outgoing, codec: Codec) -> tuple[bytes, list[Any]]:
    return out.wire(codec), [(packet.type, packet.data) for packet in out.packets(codec)]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("codec", CODECS)
def test_what_others_were_sent_changes_nothing(codec: Codec, namespace: str, data: Any) -> None:
    fresh, kept = (PreparedPackets("a::b[{", Argument(data)) for _ in range(2))
    for other in CODECS:
        for elsewhere in NAMESPACES:
            wire(kept.packet(elsewhere), other)
    assert wire(kept.packet(namespace), codec) == wire(fresh.packet(namespace), codec)
    assert kept.size == fresh.size


def test_it_is_two_objects_to_the_garbage_collector() -> None:
    kept = PreparedPackets("event", Argument({"_id": "1", "data": [{"a": []}]}))
    kept.packet("/").wire(CODECS[0])
    # Of text alone, which it finds out at its first look.
    gc.collect()
    assert _tracked(kept) == [Argument]


def _tracked(found: object) -> list[type]:
    held = [held for held in gc.get_referents(found) if gc.is_tracked(held) and not isinstance(held, type)]
    return [kind for each in held for kind in (type(each), *_tracked(each))]
