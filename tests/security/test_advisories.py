"""The advisories of 2026 (and two older ones of the same parser) about the stock parts, held against ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from repo_notify.engine.wire.frames import BINARY, CONTINUATION, TEXT, CloseCode
from tests.engine.support import EIO4, Served
from tests.engine.test_frames_abuse import FINAL, close_frame, ending, frame, opened
from tests.security.clients import Chat
from tests.support.until import until

Start = Callable[..., Served]
PLACEHOLDER = '{"_placeholder":true,"num":%d}'


@pytest.mark.parametrize("announced", [11, 1_000, 999_999_999, 10**30])
def test_the_number_of_attachments_is_limited(engine: Served, announced: int) -> None:
    """CVE-2026-33151, GHSA-677m-j7p3-52f9 (socket.io-parser): any number of attachments was waited for."""
    client = engine.client()
    client.send(f'45{announced}-["message",{PLACEHOLDER % 0}]')
    assert client.receive() is None


@pytest.mark.parametrize("named", [[0, 0], [0, 0, 1], [0], [], [1, 2], [0, -1], [0, 10**20]])
def test_a_crafted_packet_keeps_nothing(engine: Served, named: list[int]) -> None:
    """CVE-2026-69185 (socket.io-parser): memory exhausted by crafted packets with attachments."""
    client = engine.client()
    # Refused when it is announced: nothing is waited for.
    client.send(f'452-{json.dumps(["message"])[:-1]}{"".join(f",{PLACEHOLDER % one}" for one in named)}]')
    assert client.receive() is None


def test_unfinished_packets_do_not_accumulate(start: Start) -> None:
    """CVE-2026-48804 (python-socketio): attachments of packets that never became whole stayed."""
    served = start(attachments_timeout=0.3, close_timeout=0.3)
    before = served.call("/timers")
    for _ in range(50):
        client = served.client()
        client.send(f'452-["message",{PLACEHOLDER % 0},{PLACEHOLDER % 1}]')
        client.send(b"x")
        client.close()
    waiting = served.client()
    waiting.send(f'451-["message",{PLACEHOLDER % 0}]')
    assert waiting.receive() is None
    until(lambda: served.call("/state")["connections"] == 0)
    until(lambda: served.call("/timers") <= before + 64)


@pytest.mark.parametrize("kind", ["gevent", "threading"])
def test_pongs_start_no_tasks(start: Start, kind: str) -> None:
    """CVE-2026-48802, GHSA-cgwc-pv48-fhj5 (python-engineio): a thread for each pong."""
    served = start(kind, close_timeout=0.3)
    assert served.client().receive is not None
    before = served.call("/state")["tasks"]
    with opened(served.port) as raw:
        raw.sendall(frame(FINAL | TEXT, b"3") * 1000)
        ending(raw)
    until(lambda: served.call("/state")["connections"] == 0)
    until(lambda: served.call("/state")["tasks"] <= before)


def test_polls_of_a_session_do_not_pile_up(start: Start) -> None:
    """GHSA-r635-g3xr-vw7x (engine.io): polling connections were exhausted by requests that stayed open."""
    served = start()
    poller = served.polling_client()
    polls = [threading.Thread(target=poller.get) for _ in range(10)]
    for poll in polls:
        poll.start()
    for poll in polls:
        poll.join()
    assert poller.is_gone
    assert served.request("GET", None, None, **EIO4, transport="polling").status == 200


def test_tiny_fragments_are_counted(start: Start) -> None:
    """GHSA-96hv-2xvq-fx4p (ws): messages of endless tiny fragments cost much more memory than their bytes."""
    served = start(max_message_bytes=10_000)
    with opened(served.port) as raw:
        raw.sendall(frame(BINARY) + frame(CONTINUATION) * 10_001)
        assert ending(raw) == close_frame(CloseCode.TOO_BIG)


@pytest.mark.parametrize("number", ['"0"', "{}", "[]", "null", "true", "0.0", '"splice"', '"__proto__"'])
def test_a_placeholder_is_a_number(engine: Served, number: str) -> None:
    """CVE-2022-2421 (socket.io-parser): a placeholder could name what is no attachment."""
    client = engine.client()
    client.send(f'451-["message",{{"_placeholder":true,"num":{number}}}]')
    assert client.receive() is None


@pytest.mark.parametrize("name", ["{}", "[]", "null", "true", '{"toString":1}'])
def test_an_events_name_is_a_string(start: Start, name: str) -> None:
    """CVE-2023-32695 (socket.io-parser): another event name ended the process."""
    served = start()
    with Chat(served.port) as bystander:
        assert bystander.receive() == b'42["auth",{}]'
        client = served.client()
        client.send(f"42[{name}]")
        assert client.receive() is None
        bystander.send('42["message",1]')
        assert bystander.receive() == b'42["message-back",1]'
