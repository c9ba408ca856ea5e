"""What breaks RFC 6455 on a real socket: closed with the RFC's code in time, nothing left, nobody else notices."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from repo_notify.engine.wire.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, CloseCode, unmask
from tests.support.until import until

from .conftest import PING as HASTY
from .support import SECONDS, Served

pytestmark = pytest.mark.slow

Start = Callable[..., Served]

# Nothing is left of so many connections; REPO_NOTIFY_TEST_FRAMES=100000 for as many as the promise speaks of.
FRAMES = int(os.environ.get("REPO_NOTIFY_TEST_FRAMES", "3000"))
AT_ONCE = 8
LIMIT = 10_000
FINAL = 0x80
KEY = b"\x37\xfa\x21\x3d"
HANDSHAKE = (
    b"GET /chat/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(first: int, payload: bytes = b"", length: bytes | None = None) -> bytes:
    """A masked frame that claims the length of its payload, or another one."""
    size = bytes((0x80 | len(payload),)) if length is None else length
    return bytes((first,)) + size + KEY + unmask(payload, KEY)


def long(size: int) -> bytes:
    return bytes((0x80 | 127,)) + size.to_bytes(8, "big")


def short(size: int) -> bytes:
    return bytes((0x80 | 126,)) + size.to_bytes(2, "big")


# What is sent, and the code that the server closes with.
ABUSES: dict[str, tuple[bytes, CloseCode]] = {
    "reserved bit 1": (frame(FINAL | 0x40 | TEXT, b"2"), CloseCode.PROTOCOL_ERROR),
    "reserved bit 3": (frame(FINAL | 0x10 | PING), CloseCode.PROTOCOL_ERROR),
    "unmasked": (bytes((FINAL | TEXT, 1)) + b"2", CloseCode.PROTOCOL_ERROR),
    "opcode 3": (frame(FINAL | 0x3, b"2"), CloseCode.PROTOCOL_ERROR),
    "opcode 11": (frame(FINAL | 0xB), CloseCode.PROTOCOL_ERROR),
    "continuation of nothing": (frame(FINAL | CONTINUATION, b"2"), CloseCode.PROTOCOL_ERROR),
    "message within a message": (frame(TEXT, b"4") + frame(FINAL | TEXT, b"2"), CloseCode.PROTOCOL_ERROR),
    "fragmented ping": (frame(PING, b"x"), CloseCode.PROTOCOL_ERROR),
    "long ping": (frame(FINAL | PING, b"x" * 126, short(126)), CloseCode.PROTOCOL_ERROR),
    "close of one byte": (frame(FINAL | CLOSE, b"x"), CloseCode.PROTOCOL_ERROR),
    "close code 1005": (frame(FINAL | CLOSE, (1005).to_bytes(2, "big")), CloseCode.PROTOCOL_ERROR),
    "close reason in Latin 1": (frame(FINAL | CLOSE, b"\x03\xe8\xe9"), CloseCode.INVALID_DATA),
    "text in Latin 1": (frame(FINAL | TEXT, b"4\xe9"), CloseCode.INVALID_DATA),
    "text in halves in Latin 1": (frame(TEXT, b"4") + frame(FINAL | CONTINUATION, b"\xe9"), CloseCode.INVALID_DATA),
    "message beyond the limit": (frame(FINAL | BINARY, b"x", long(2**40)), CloseCode.TOO_BIG),
    "fragments without an end": (
        frame(BINARY, b"x") + frame(CONTINUATION, b"x" * 100) * (LIMIT // 100 + 1), CloseCode.TOO_BIG
    ),
    "empty fragments without an end": (frame(BINARY) + frame(CONTINUATION) * (LIMIT + 1), CloseCode.TOO_BIG),
    "negative length": (frame(FINAL | BINARY, b"x", long(2**63)), CloseCode.PROTOCOL_ERROR),
    "length written too long": (frame(FINAL | TEXT, b"2", short(1)), CloseCode.PROTOCOL_ERROR),
}
# What no frame is ever made of: its connection lasts as long as a silent one's.
TRICKLE = frame(FINAL | TEXT, b"x" * 100)


def opened(port: int) -> socket.socket:
    """A WebSocket whose handshake is answered and whose open packet is read."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    raw.sendall(HANDSHAKE)
    seen = b""
    while not seen.endswith(b"}"):
        more = raw.recv(4096)
        assert more, seen
        seen += more
    return raw


def ending(raw: socket.socket) -> bytes:
    """All that the server still sends."""
    found = b""
    try:
        while more := raw.recv(4096):
            found += more
    except ConnectionResetError:
        pass  # it had not read everything when it closed
    return found


def abuse(port: int, sent: bytes) -> bytes:
    with opened(port) as raw:
        raw.sendall(sent)
        return ending(raw)


def close_frame(code: CloseCode) -> bytes:
    return bytes((FINAL | CLOSE, 2)) + int(code).to_bytes(2, "big")


@pytest.fixture(scope="module")
def limited() -> Iterator[Served]:
    served = Served("gevent", max_message_bytes=LIMIT, close_timeout=1)
    yield served
    served.stop()


@pytest.mark.parametrize("name", ABUSES)
def test_a_broken_frame_is_answered_with_the_codes_of_the_rfc(limited: Served, name: str) -> None:
    sent, code = ABUSES[name]
    assert abuse(limited.port, sent) == close_frame(code)


@pytest.mark.parametrize("name", ABUSES)
def test_at_whichever_places_it_is_cut(limited: Served, name: str) -> None:
    sent, code = ABUSES[name]
    with opened(limited.port) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(min(len(sent), 40)):
            raw.sendall(sent[at : at + 1])
        raw.sendall(sent[40:])
        assert ending(raw) == close_frame(code)


def test_one_byte_at_a_time_lasts_no_longer_than_silence(start: Start) -> None:
    served = start(**HASTY, max_message_bytes=LIMIT)
    with opened(served.port) as raw:
        stop = threading.Event()

        def trickle() -> None:
            for byte in TRICKLE:
                if stop.wait(0.1):
                    return
                try:
                    raw.sendall(bytes((byte,)))
                except OSError:
                    return  # the server has closed

        begun = monotonic()
        sender = threading.Thread(target=trickle)
        sender.start()
        assert ending(raw) == b"\x81\x012"  # the ping that it did not answer
        assert monotonic() - begun < len(TRICKLE) * 0.1 / 2
        stop.set()
        sender.join()
    until(lambda: served.call("/state")["connections"] == 0)


@pytest.mark.parametrize("kind", ["gevent, hasty", "gevent, pywsgi, hasty"])
@pytest.mark.parametrize(
    ("begun", "answer"), [(b"", b""), (b"GET /chat/", b""), (b"GET /chat/ HTTP/1.1\r\nHost: h\r\nX-", b"HTTP/1.1 400 ")]
)
def test_who_does_not_finish_a_request_is_not_waited_for(start: Start, kind: str, begun: bytes, answer: bytes) -> None:
    served = start(kind)
    with served.raw() as slow, opened(served.port) as patient:
        slow.sendall(begun)
        assert ending(slow).startswith(answer)
        # A WebSocket, and a connection that asks in time, are another matter.
        patient.sendall(frame(FINAL | PING, b"x"))
        assert patient.recv(100) == bytes((FINAL | PONG, 1)) + b"x"
        assert served.call("/state")["connections"] == 1


@pytest.mark.timeout(900)
@pytest.mark.unmeasured
def test_nothing_is_left_of_many_and_nobody_else_notices(start: Start) -> None:
    # The witness answers no pings, and the full number takes longer than it would be waited for.
    served = start(max_message_bytes=LIMIT, close_timeout=1, ping_interval=900)
    witness = served.client()
    abuse(served.port, ABUSES["unmasked"][0])
    until(lambda: served.call("/state")["connections"] == 1)
    before = served.call("/state")
    small = [(sent, code) for sent, code in ABUSES.values() if len(sent) < LIMIT]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda number: abuse(served.port, small[number % len(small)][0]), range(FRAMES))
        for number, answer in enumerate(answers):
            assert answer == close_frame(small[number % len(small)][1]), number
            if number % 100 == 0:
                witness.send(f'42{number}["message-with-ack",{number}]')
                assert json.loads(str(witness.receive()).removeprefix(f"43{number}")) == [number]
    until(lambda: served.call("/state") == before, lambda: (before, served.call("/state")))
