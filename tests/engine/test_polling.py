from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .support import EIO4, Answer, Poller, Served


def in_background(call: Callable[[], Answer]) -> Callable[[], Answer]:
    """Begin a request; the answer, when it is there."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call)
    pool.shutdown(wait=False)
    return lambda: future.result(10)


def test_several_packets_in_one_payload(engine: Served) -> None:
    poller = engine.polling_client()
    assert poller.post('42["message",1]\x1e42["message",2]').text == "ok"
    assert [poller.receive(), poller.receive()] == ['42["message-back",1]', '42["message-back",2]']


def test_text_beyond_ascii_comes_back(engine: Served) -> None:
    poller = engine.polling_client()
    poller.send('42["message","€\\ud800"]')
    assert poller.receive() == '42["message-back","€\\ud800"]'


def test_binary_travels_as_base64(engine: Served) -> None:
    poller = engine.polling_client()
    poller.send('451-["message",{"_placeholder":true,"num":0}]\x1ebAQIDBA==')
    assert poller.receive() == '451-["message-back",{"_placeholder":true,"num":0}]'
    assert poller.receive() == "bAQIDBA=="


def test_a_thousand_packets_are_taken_and_no_more(engine: Served) -> None:
    poller = engine.polling_client()
    assert poller.post("\x1e".join(['42["message"]'] * 1_000)).text == "ok"
    assert poller.post("\x1e".join(['42["message"]'] * 1_001)).status == 400
    assert poller.is_gone


MALFORMED = [b"", b"abc", b"9", b"4abc\x1e", b"\xff\xfe", b"b!!!", b"bAQ", b"2probe", b"0{}", b"5", b"6", b"40\x1eabc"]


@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_payload_ends_the_session(engine: Served, body: bytes) -> None:
    poller = engine.poller()
    assert poller.post(body).status == 400
    assert poller.is_gone


def test_the_open_poll_is_answered_when_a_payload_is_malformed(engine: Served) -> None:
    poller = engine.polling_client()
    answer = in_background(poller.get)
    wait_for_poll(engine, poller)
    poller.post("abc")
    assert (answer().status, answer().text) == (200, "1")
    assert poller.is_gone


def wait_for_poll(engine: Served, poller: Poller) -> None:
    """Until the server holds the session's poll."""
    while not engine.call("/polls", sid=poller.sid):
        pass


def test_a_second_poll_ends_the_session(engine: Served) -> None:
    poller = engine.poller()
    first = in_background(poller.get)
    wait_for_poll(engine, poller)
    assert poller.get().status == 400
    assert (first().status, first().text) == (200, "1")
    assert poller.is_gone


def test_a_second_post_ends_the_session(engine: Served) -> None:
    poller = engine.poller()
    with engine.raw() as raw:
        raw.sendall(head(poller, "Content-Length: 10") + b"4")
        while not engine.call("/polls", sid=poller.sid, direction="posting"):
            pass
        assert poller.post("40").status == 400
    assert poller.is_gone


def test_a_close_packet_ends_the_session_and_the_poll(engine: Served) -> None:
    poller = engine.poller()
    answer = in_background(poller.get)
    wait_for_poll(engine, poller)
    assert poller.post("1").text == "ok"
    assert (answer().status, answer().text) == (200, "6")
    assert poller.is_gone


def head(poller: Poller, *lines: str) -> bytes:
    request = f"POST /chat/?EIO=4&transport=polling&sid={poller.sid} HTTP/1.1"
    return "\r\n".join([request, "Host: x", *lines, "", ""]).encode()


def read_status(raw: socket.socket) -> int:
    return int(raw.recv(65_536).split()[1])


TOO_LARGE = b"4" * 1_000_001
# The header's lines, what follows them, and the statuses that are an answer.
BODIES = [
    (["Content-Length: 1000001"], b"", {413}),
    (["Content-Length: 99999999999999999999"], b"", {400, 413}),
    (["Content-Length: -1"], b"", {400}),
    (["Content-Length: abc"], b"", {400}),
    (["Content-Length: 1_0"], b"4", {400}),
    ([], b"", {400}),
    (["Transfer-Encoding: chunked"], b"f4241\r\n" + TOO_LARGE + b"\r\n0\r\n\r\n", {413}),
]


@pytest.mark.parametrize(("lines", "body", "statuses"), BODIES)
def test_a_body_that_cannot_be_is_answered(engine: Served, lines: list[str], body: bytes, statuses: set[int]) -> None:
    poller = engine.poller()
    with engine.raw() as raw:
        raw.sendall(head(poller, *lines) + body)
        assert read_status(raw) in statuses


def test_a_body_that_is_too_large_ends_the_session(engine: Served) -> None:
    poller = engine.poller()
    assert poller.post(TOO_LARGE).status == 413
    assert poller.is_gone


def test_a_chunked_body_is_read(engine: Served) -> None:
    poller = engine.poller()
    with engine.raw() as raw:
        raw.sendall(head(poller, "Transfer-Encoding: chunked") + b"2\r\n40\r\n0\r\n\r\n")
        assert read_status(raw) == 200
    assert str(poller.receive()).startswith("40{")


def test_a_body_that_ends_early_ends_the_session(engine: Served) -> None:
    poller = engine.poller()
    with engine.raw() as raw:
        raw.sendall(head(poller, "Content-Length: 10") + b"40")
        raw.shutdown(socket.SHUT_WR)
        raw.recv(1000)
    assert poller.is_gone


@pytest.mark.parametrize("kind", ["gevent", "gevent-websocket", "threading"])
def test_a_body_that_never_comes_is_given_up(start: Callable[..., Served], kind: str) -> None:
    poller = start(kind, ping_interval=0.3, ping_timeout=0.2).poller()
    with poller._served.raw() as raw:
        raw.sendall(head(poller, "Content-Length: 10") + b"40")
        assert read_status(raw) == 408


ENCODINGS = [("gzip", "gzip"), ("br, deflate", "deflate"), ("gzip;q=0", None), ("", None)]


@pytest.mark.parametrize(("accepted", "encoding"), ENCODINGS)
def test_large_answers_are_compressed(engine: Served, accepted: str, encoding: str | None) -> None:
    poller = engine.polling_client()
    poller.send(f'42["message","{"x" * 2000}"]')
    answer = engine.request("GET", None, {"Accept-Encoding": accepted}, **EIO4, transport="polling", sid=poller.sid)
    assert answer.headers.get("content-encoding") == encoding
    if encoding == "gzip":
        assert gzip.decompress(answer.content).startswith(b'42["message-back"')


def test_packets_keep_their_order_while_polls_come_and_go(engine: Served) -> None:
    poller = engine.polling_client()
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.extend(poller.receive() for _ in range(50)))
    reader.start()
    for number in range(50):
        poller.send(f'42["message",{number}]')
    reader.join(10)
    assert got == [f'42["message-back",{number}]' for number in range(50)]
