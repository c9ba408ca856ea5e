"""Random input by the ten thousand through the real socket: memory and state are flat, and a bystander hears events.

20,000 inputs; REPO_NOTIFY_TEST_FUZZ=1000000 for as many as the promise speaks of.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from repo_notify.demo.seed import STRUCTURE, TOWER
from repo_notify.engine.wire.frames import BINARY, CONTINUATION, PING, TEXT
from tests.conftest import UNHURRIED, host_defaults
from tests.engine.test_frames_abuse import FINAL, HANDSHAKE, frame
from tests.security.clients import Chat
from tests.support.served import Served, User, forked
from tests.support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

INPUTS = int(os.environ.get("REPO_NOTIFY_TEST_FUZZ", "20000"))
PER_CONNECTION = 50
SECONDS = 5.0
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
TIMEOUT = 60 + INPUTS // 100
MEGABYTE = 1 << 20

EIOS = st.sampled_from(["3", "4"])
TOKENS = st.sampled_from(
    ["EIO", "transport", "sid", "j", "b64", "t", "4", "3", "5", "polling", "websocket", "", "0", "-1", "é", "\0", "1e9"]
)
QUERIES = st.lists(st.tuples(TOKENS, TOKENS | st.text(max_size=20)), max_size=8).map(
    lambda pairs: "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
)
METHODS = st.sampled_from(["GET", "GET", "POST", "PUT", "OPTIONS", "HEAD", "BREW"])
HEADERS = st.lists(
    st.sampled_from([
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: x", "Origin: http://evil.example",
        "Origin: null", "Cookie: session=x", "Content-Length: 3", "x-socket-id: *",
    ]),
    max_size=8, unique=True,
).map("\r\n".join)


@st.composite
def handshakes(draw: st.DrawFn) -> bytes:
    head = f"{draw(METHODS)} /chat/?{draw(QUERIES)} HTTP/1.1\r\nHost: h\r\n"
    headers = draw(HEADERS)
    return (head + (headers + "\r\n" if headers else "") + "Connection: close\r\n\r\n").encode("utf-8", "replace")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
    | st.sampled_from([{"_placeholder": True, "num": 0}, {"_placeholder": True, "num": 1}, {"$gt": ""}]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
EVENTS = st.sampled_from(["join", "join", "join", "leave", "leave", "message", "*", "connect", "disconnect"])
IDS = st.sampled_from(["acme", "admin", "carol", TOWER, STRUCTURE, True])
ROOMS = st.dictionaries(st.sampled_from(["teamspace", "project", "model", "account", "notifications"]), IDS | JSON)
HEADS = st.from_regex(r"[0-7]([0-9]{0,2}-)?(/(legacy_v4|x)?,?)?[0-9]{0,3}", fullmatch=True)
MESSAGES = (
    st.builds(lambda name, data: f"42{json.dumps([name, *data])}", EVENTS, st.lists(JSON | ROOMS, max_size=3))
    | st.builds(lambda head, data: f"4{head}{json.dumps(data)}", HEADS, JSON | st.lists(JSON | EVENTS, min_size=1))
    | st.sampled_from(["2", "3", "40", "41", "40/legacy_v4,", "41/legacy_v4,", "1", "5", "6", "40/nowhere,", "2probe"])
    | st.text(max_size=30)
)
OPCODES = st.sampled_from([TEXT, TEXT, TEXT, BINARY, CONTINUATION, PING, 0x3, 0xB])
FRAMES = (
    MESSAGES.map(lambda text: frame_of(FINAL | TEXT, text.encode("utf-8", "surrogatepass")))
    | st.builds(lambda opcode, final, data: frame_of(final | opcode, data), OPCODES, st.sampled_from([0, FINAL]),
                st.binary(max_size=130))
    | st.binary(min_size=1, max_size=20)
)


def frame_of(first: int, payload: bytes) -> bytes:
    """A frame with a length of either form."""
    long = bytes((0x80 | 126,)) + len(payload).to_bytes(2, "big") if len(payload) > 125 else None
    return frame(first, payload, long)


class Fuzzer:
    """Sends inputs to one server, `count` of them so far; a bystander is asked now and then."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.count = 0
        self._user = User(served).log_in("carol")
        self._handshake = HANDSHAKE.replace(b"Host: h\r\n", f"Host: h\r\nCookie: {self._user.cookie}\r\n".encode())
        self._publisher = User(served).log_in("bob")
        self.bystander = Chat(served.port, cookie=self._user.cookie)
        (answer,) = self.bystander.ask(f'42["join",{json.dumps(ROOM)}]')
        assert b"success" in answer
        self._told = 0
        self._open: socket.socket | None = None
        self._uses = 0

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def took(self, inputs: int) -> None:
        self.count += inputs
        self._told += inputs
        if self._told >= 500:
            self._told = 0
            self._publisher.post("/end-polling")
            self.hears()

    def hears(self) -> None:
        """The bystander hears an event."""
        self._publisher.publish("TicketCreated", **ROOM, kind="container", data={"_id": str(self.count)})
        heard = self.bystander.receive()
        assert json.loads(heard[2:])[1]["data"] == {"_id": str(self.count)}, heard

    def alive(self) -> dict[str, Any]:
        """What is alive in the server."""
        found: dict[str, Any] = self._publisher.http.get(self.served.url + "/alive", timeout=SECONDS).json()
        return found

    def handshake(self, data: bytes) -> None:
        """One HTTP request; whatever it is, it is answered or closed."""
        with socket.create_connection(("127.0.0.1", self.served.port), timeout=SECONDS) as raw:
            raw.sendall(data)
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(4096)[:5] in (b"HTTP/", b"")
        self.took(1)

    def frames(self, frames: list[bytes]) -> None:
        """Frames on one connection until it is closed, or many were sent on it."""
        for data in frames:
            if self._open is None:
                self._connect()
            self._send(data)
            self._uses += 1
            if self._uses >= PER_CONNECTION:
                self.close()
        self.took(len(frames))

    def _connect(self) -> None:
        raw = socket.create_connection(("127.0.0.1", self.served.port), timeout=SECONDS)
        raw.sendall(self._handshake)
        seen = b""
        while not seen.endswith(b"}"):
            more = raw.recv(4096)
            assert more, seen
            seen += more
        raw.setblocking(False)
        self._open, self._uses = raw, 0
        self._send(frame(FINAL | TEXT, b"40"))

    def _send(self, data: bytes) -> None:
        if self._open is None:
            return
        try:
            self._open.sendall(data)
            while self._open.recv(65_536):
                pass
            self.close()
        except BlockingIOError:
            pass  # nothing is answered yet
        except OSError:
            self.close()

    def payload(self, query: str, packets: list[str]) -> None:
        """A polling session that posts packets, each with the generation's own framing."""
        url = f"{self.served.url}/chat/?{query}&transport=polling"
        opened = self._user.http.get(url, timeout=SECONDS)
        assert opened.status_code == 200, opened.text
        found = opened.text[opened.text.index("{") :]
        sid = json.JSONDecoder().raw_decode(found)[0]["sid"]
        body = "\x1e".join(["40", *packets]) if "EIO=4" in query else "".join(f"{len(one)}:{one}" for one in packets)
        answer = self._user.http.post(f"{url}&sid={sid}", body.encode("utf-8", "replace"), timeout=SECONDS)
        assert answer.status_code in (200, 400), answer.text
        self.took(len(packets))


@pytest.fixture
def fuzzer(sample: str) -> Iterator[Fuzzer]:
    pytest.importorskip("legacy_v4")
    times = {"PING_INTERVAL": 7200, "PING_TIMEOUT": 1, "CONNECT_TIMEOUT": 1}
    config = {**host_defaults(sample), **UNHURRIED, **{f"REPO_NOTIFY_{name}": time for name, time in times.items()}}
    with forked("tests.security.serve", json.dumps(config)) as served:
        fuzzer = Fuzzer(served)
        with fuzzer.bystander:
            yield fuzzer


def run(inputs: int, at_once: int, call: Callable[[Any], None], strategy: st.SearchStrategy[Any]) -> None:
    """Call with random inputs, `at_once` in each example, until there were so many."""

    @settings(
        max_examples=max(inputs // at_once, 1), phases=[Phase.generate], database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def example(found: Any) -> None:
        call(found)

    example()


@pytest.mark.timeout(TIMEOUT)
def test_nothing_is_left_of_random_input(fuzzer: Fuzzer) -> None:
    # Whatever is made once for the life of the process is made by the first of them.
    _round(fuzzer, INPUTS // 10)
    before = _settled(fuzzer)
    _round(fuzzer, INPUTS)
    assert fuzzer.count >= INPUTS
    after = _settled(fuzzer)
    for name in ("connections", "kept", "namespaces"):
        assert after[name] == before[name]
    assert after["tasks"] <= before["tasks"] + 10
    assert after["timers"] <= before["timers"] + 64
    assert after["memory"] < before["memory"] + 10 * MEGABYTE


def _round(fuzzer: Fuzzer, inputs: int) -> None:
    run(inputs // 10, 1, fuzzer.handshake, handshakes())
    run(inputs * 7 // 10, 20, fuzzer.frames, st.lists(FRAMES, min_size=20, max_size=20))
    run(
        inputs * 2 // 10, 10, lambda found: fuzzer.payload(*found),
        st.tuples(st.sampled_from(["EIO=4", "EIO=3", "EIO=3&b64=1"]), st.lists(MESSAGES, min_size=10, max_size=10)),
    )


def _settled(fuzzer: Fuzzer) -> dict[str, Any]:
    """What is alive when only the bystander is left."""
    fuzzer.close()
    fuzzer.took(500)
    until(lambda: fuzzer.alive()["connections"] == 1, fuzzer.alive)
    return fuzzer.alive()
