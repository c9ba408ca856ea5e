"""Our Engine.IO 3 codec against the parsers that socket.io 1.x and 2.x shipped with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("legacy_v4")

from legacy_v4.codec import EngineIO3
from repo_notify.engine.wire.codec import Body
from repo_notify.engine.wire.packets import EioPacket, EioType, SioPacket, SioType
from tests.clients.harness import restore_bytes, to_wire
from tests.clients.install import Node
from tests.legacy_v4.vectors import BASE64, FRAMES, MESSAGES, PAYLOADS, PLAIN, Payload

pytestmark = pytest.mark.clients

SECONDS = 30
CODEC = EngineIO3(jsonp=True)
# socket.io-client 1.4.0, 1.7.4 and 2.x bring these.
ENGINE_PARSERS = ("engine.io-parser-1.2", "engine.io-parser-1.3", "engine.io-parser-2")
SOCKET_PARSERS = ("socket.io-parser-2.2", "socket.io-parser-2.3", "socket.io-parser-3")
# Only text in the text form tells 1.x and 2.x apart: 1.x writes UTF-8 twice.
ASCII = {name: row for name, row in PAYLOADS.items() if all(str(packet.data).isascii() for packet in row.packets)}
NAMES = {kind: kind.name.lower() for kind in EioType}
Run = Callable[[Iterable[tuple[str, str, Any]]], list[Any]]


@pytest.fixture(scope="session")
def run(node: Node, installed_clients: Path) -> Run:
    """Run jobs of parsers.js, and return their results."""
    script = Path(__file__).with_name("parsers.js")

    def jobs(several: Iterable[tuple[str, str, Any]]) -> list[Any]:
        done = subprocess.run(
            [node.executable, str(script), str(installed_clients)],
            input=json.dumps(to_wire(list(several))),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert not done.returncode, done.stderr
        results: list[Any] = json.loads(done.stdout, object_pairs_hook=restore_bytes)
        return results

    return jobs


def theirs(packet: EioPacket) -> dict[str, Any]:
    """A packet as engine.io-parser has it."""
    return {"type": NAMES[packet.type], "data": packet.data}


def without_empty(packet: dict[str, Any]) -> dict[str, Any]:
    """A packet without data has none, or the empty string, as the version may be."""
    return {"data": "", **packet}


def wire(payload: Payload) -> str | bytes:
    """The body as a client's transport hands it to its parser."""
    return payload.body if payload.content_type.startswith("application/octet") else payload.body.decode()


@pytest.mark.parametrize("parser", ENGINE_PARSERS)
def test_they_read_our_payloads(run: Run, parser: str) -> None:
    rows = PAYLOADS if parser == ENGINE_PARSERS[-1] else ASCII
    ours = [
        replace(row, body=CODEC.of_session(row.query).encode_payload(row.packets, row.query).data)
        for row in rows.values()
    ]
    found = run((parser, "decodePayload", wire(payload)) for payload in ours)
    for name, packets in zip(rows, found, strict=True):
        assert list(map(without_empty, packets)) == list(map(theirs, rows[name].packets)), name


@pytest.mark.parametrize("parser", ENGINE_PARSERS)
def test_we_read_their_payloads(run: Run, parser: str) -> None:
    found = run(
        (parser, "encodePayload", {"packets": list(map(theirs, row.packets)), "binary": row.query != BASE64})
        for row in PAYLOADS.values()
    )
    for (name, row), body in zip(PAYLOADS.items(), found, strict=True):
        is_binary = isinstance(body, bytes)
        received = Body(body if is_binary else body.encode(), "application/octet-stream" if is_binary else "text/plain")
        assert CODEC.decode_payload(received, PLAIN, 100) == list(row.packets), name


def test_the_newest_of_them_writes_payloads_as_we_do(run: Run) -> None:
    parser = ENGINE_PARSERS[-1]
    found = run(
        (parser, "encodePayload", {"packets": list(map(theirs, row.packets)), "binary": row.query != BASE64})
        for row in PAYLOADS.values()
    )
    assert dict(zip(PAYLOADS, found, strict=True)) == {name: wire(row) for name, row in PAYLOADS.items()}


@pytest.mark.parametrize("parser", ENGINE_PARSERS)
def test_frames_of_websockets_are_the_same(run: Run, parser: str) -> None:
    written = run((parser, "encodePacket", theirs(packet)) for _, packet in FRAMES.values())
    assert written == [frame for frame, _ in FRAMES.values()]
    read = run((parser, "decodePacket", frame) for frame, _ in FRAMES.values())
    assert list(map(without_empty, read)) == [theirs(packet) for _, packet in FRAMES.values()]


def message(packet: SioPacket) -> dict[str, Any]:
    """A packet as socket.io-parser has it."""
    found = {"type": packet.type.value, "nsp": packet.namespace, "id": packet.id, "data": packet.data}
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize("parser", SOCKET_PARSERS)
def test_they_read_our_messages(run: Run, parser: str) -> None:
    found = run((parser, "decodeMessage", CODEC.encode_message(packet)) for _, packet in MESSAGES.values())
    assert found == [[message(packet)] for _, packet in MESSAGES.values()]


@pytest.mark.parametrize("parser", SOCKET_PARSERS)
def test_we_read_their_messages(run: Run, parser: str) -> None:
    packets = [packet for _, packet in MESSAGES.values()]
    found = run((parser, "encodeMessage", message(packet)) for packet in packets)
    read = [[CODEC.decode_message(text, 10)._replace(spelling=None) for text in texts] for texts in found]
    assert read == [[packet] for packet in packets]


@pytest.mark.parametrize("parser", SOCKET_PARSERS)
@pytest.mark.parametrize("kind", [SioType.EVENT, SioType.ACK])
def test_attachments_are_theirs(run: Run, parser: str, kind: SioType) -> None:
    packet = SioPacket(kind, "/legacy_v4", 4, ["f", {"a": b"\x00\xff"}, b"\x01"])
    written = CODEC.encode_message(packet)
    (read,) = run([(parser, "decodeMessage", written)])
    assert [found["data"] for found in read] == [packet.data]
    binary_form = {SioType.EVENT: SioType.BINARY_EVENT, SioType.ACK: SioType.BINARY_ACK}[kind]
    (theirs,) = run([(parser, "encodeMessage", {**message(packet), "type": binary_form.value})])
    header, *attachments = theirs
    assert attachments == written[1:]
    written_alike = CODEC.decode_message(str(written[0]), 10)._replace(spelling=None)
    assert CODEC.decode_message(header, 10)._replace(spelling=None) == written_alike
