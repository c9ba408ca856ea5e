"""What one connection can make the server keep: unfinished packets, namespaces, packets that wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from repo_notify.engine.wire.frames import TEXT
from tests.engine.support import Served
from tests.engine.test_frames_abuse import FINAL, frame, opened
from tests.engine.test_polling import in_background
from tests.support.until import until

Start = Callable[..., Served]
BINARY = '451-["message",{"_placeholder":true,"num":0}]'
TWO = '452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
MOST = 100


@pytest.mark.parametrize("kind", ["gevent", "gevent-websocket", "threading"])
def test_an_unfinished_packet_has_a_deadline(start: Start, kind: str) -> None:
    served = start(kind, attachments_timeout=0.3, close_timeout=0.3)
    client, poller = served.client(), served.polling_client()
    client.send(TWO)
    client.send(b"x")
    poller.send(BINARY)
    assert client.receive() is None
    until(lambda: served.call("/state")["connections"] == 0)
    # A poll that crosses the end is answered with a close packet.
    until(lambda: poller.is_gone)


def test_a_packet_that_is_finished_has_none(start: Start) -> None:
    served = start(attachments_timeout=0.2)
    client = served.client()
    client.send(BINARY)
    client.send(b"x")
    assert [client.receive(), client.receive()] == [BINARY.replace("message", "message-back"), b"x"]
    client.send('421["slow",0.5,1]')
    assert client.receive() == "431[1]"


def test_an_unfinished_packet_is_no_larger_than_a_message(start: Start) -> None:
    served = start(max_message_bytes=10_000)
    client = served.client()
    client.send(TWO)
    client.send(b"x" * 9_000)
    client.send(b"x" * 9_000)
    assert client.receive() is None


def test_before_a_namespace_is_joined_there_are_no_attachments(engine: Served) -> None:
    client = engine.websocket()
    client.receive()
    client.send(BINARY)
    assert client.receive() is None
    poller = engine.poller()
    refused = poller.post(BINARY)
    assert (refused.status, refused.json["message"]) == (400, "EVENT before CONNECT")


def test_nor_after_one_that_is_unknown(engine: Served) -> None:
    client = engine.client()
    client.send("40/random,")
    assert client.receive() == '44/random,{"message":"Invalid namespace"}'
    client.send(BINARY.replace("1-", "1-/random,"))
    assert client.receive() is None


def test_unknown_namespaces_are_counted(engine: Served) -> None:
    client = engine.websocket()
    client.receive()
    for number in range(MOST + 1):
        client.send(f"40/random{number},")
        assert client.receive() == f'44/random{number},{{"message":"Invalid namespace"}}'
    assert client.receive_all() == ["1"]


def test_so_are_those_that_it_is_in(start: Start) -> None:
    served = start(max_namespaces=3)
    client = served.client()
    for namespace in ("/custom", "/named"):
        client.send(f"40{namespace},")
        assert str(client.receive()).startswith(f"40{namespace},")
        if namespace == "/custom":
            client.receive()
    client.send("41/named,")
    client.send("40/named,")
    assert str(client.receive()).startswith("40/named,")
    client.send("40/refusing,")
    assert client.receive() is None


CHURN = {
    "connect and disconnect": ["40/custom,", "41/custom,"],
    "events": ['42["message"]'],
}


@pytest.mark.parametrize("name", CHURN)
def test_a_polling_clients_packets_wait_outside_when_many_wait_within(start: Start, name: str) -> None:
    served = start(max_payload_packets=5000)
    poller = served.polling_client()
    poller.send('421["slow",1,1]')
    packets = CHURN[name] * (3000 // len(CHURN[name]))
    post = in_background(lambda: poller.post("\x1e".join(packets)))
    until(lambda: served.call("/waiting", sid=poller.sid) >= 1000)
    assert served.call("/waiting", sid=poller.sid) <= 1001
    # Those who are answered meanwhile do not notice.
    assert served.client() is not None
    assert post().text == "ok"
    assert poller.get().status == 200


def test_a_websockets_packets_wait_outside_too(start: Start) -> None:
    served = start()
    with opened(served.port) as raw:
        raw.sendall(frame(FINAL | TEXT, b"40") + frame(FINAL | TEXT, b'421["slow",2,1]'))
        churn = (frame(FINAL | TEXT, b"40/custom,") + frame(FINAL | TEXT, b"41/custom,")) * 500_000
        raw.settimeout(1)
        with pytest.raises(TimeoutError):
            raw.sendall(churn)
        (waiting,) = served.call("/waiting_all")
        # What one read of the socket brought is in there, 64 KiB, and nothing after it.
        assert 1000 <= waiting < 1000 + 65_536 // 16
    until(lambda: served.call("/state")["connections"] == 0)
