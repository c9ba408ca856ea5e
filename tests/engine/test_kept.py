"""An event that is kept for who comes back is its text alone, and is on the wire what it was."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from repo_notify.engine import EngineIO4
from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.outgoing import Outgoing
from repo_notify.sockets import PreparedPackets

legacy = pytest.importorskip("legacy_v4")

NAMESPACES = ("/", "/legacy_v4")
NEWEST = EngineIO4()
CODECS: tuple[Codec, ...] = (NEWEST, EngineIO4(ascii_only=True), *legacy.V4(namespace="/", names="first").codecs)
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
def test_what_is_kept_is_on_the_wire_what_it_was(codec: Codec, namespace: str, data: Any) -> None:
    fresh, kept = (PreparedPackets(NAMESPACES, NEWEST, "a::b[{", data) for _ in range(2))
    size = kept.size
    kept.settle()
    kept.settle()
    assert kept.size == size
    assert wire(kept.packet(namespace), codec) == wire(fresh.packet(namespace), codec)


def test_it_is_one_object_to_the_garbage_collector() -> None:
    kept = PreparedPackets(NAMESPACES, NEWEST, "event", {"_id": "1", "data": [{"a": []}]})
    kept.packet("/").wire(NEWEST)
    kept.settle()
    held = [found for found in gc.get_referents(kept) if gc.is_tracked(found) and not isinstance(found, type)]
    assert held == [NEWEST]
