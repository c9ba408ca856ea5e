"""How long one client's large message keeps the others waiting: WebSocket pings on a connection beside it."""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

from benchmarks.load.audience import LoadError, Script
from benchmarks.load.frames import CLOSE, PING, PONG, masked

PING_SECONDS = 0.001
PONG_FRAME = bytes([0x80 | PONG, 0])
CLOSE_BYTE = 0x80 | CLOSE
OUTCOMES = {b'42["error"': "refused with an error", b'42["message"': "accepted and answered"}


@dataclass(frozen=True)
class Probed:
    """The slowest answers, in seconds, without and with the large message, and what became of that message."""

    before: float
    during: float
    outcome: str


def probe(script: Script, message: bytes, seconds: float) -> Probed:
    """Ping each millisecond for `seconds`, then again for `seconds` from the moment at which `message` is sent."""
    others, sender = enter(script), enter(script)
    try:
        before, _ = _slowest(others, sender, b"", seconds)
        during, outcome = _slowest(others, sender, message, seconds)
    finally:
        others.close()
        sender.close()
    return Probed(before, during, outcome)


def slowest_answer(script: Script, seconds: float) -> float:
    """Ping each millisecond for `seconds`, with nothing else going on; return the slowest answer, in seconds."""
    others, idle = enter(script), enter(script)
    try:
        return _slowest(others, idle, b"", seconds)[0]
    finally:
        others.close()
        idle.close()


def enter(script: Script) -> socket.socket:
    """Return a connection that has taken the steps of a script; raises `LoadError`."""
    client = socket.create_connection((script.host, script.port), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for data, awaited in script.steps:
        client.sendall(data)
        received = b""
        while awaited not in received:
            more = client.recv(65_536)
            if not more:
                raise LoadError(f"the probe was refused: {received[-300:]!r}")
            received += more
    client.setblocking(False)
    return client


def _slowest(others: socket.socket, sender: socket.socket, message: bytes, seconds: float) -> tuple[float, str]:
    """Return the slowest ping, and what became of the message."""
    ping = masked(b"", PING)
    epoll = select.epoll()
    epoll.register(others, select.EPOLLIN)
    epoll.register(sender, select.EPOLLIN | (select.EPOLLOUT if message else 0))
    started = time.monotonic()
    rest, received, ended = memoryview(message), b"", False
    slowest = sent_at = 0.0
    next_ping = started
    while (now := time.monotonic()) < started + seconds:
        if not sent_at and now >= next_ping:
            others.send(ping)
            sent_at, next_ping = now, now + PING_SECONDS
        for number, events in epoll.poll(PING_SECONDS / 4):
            if number == others.fileno() and PONG_FRAME in others.recv(65_536):
                slowest, sent_at = max(slowest, time.monotonic() - sent_at), 0.0
            elif number == sender.fileno():
                rest, data = _exchange(sender, rest, events)
                received += data
                watched = select.EPOLLIN | (select.EPOLLOUT if rest else 0)
                if data == b"" and events & select.EPOLLIN:
                    ended = True
                    epoll.unregister(sender)
                else:
                    epoll.modify(sender, watched)
    epoll.close()
    # A ping that is still out has waited at least that long.
    return max(slowest, time.monotonic() - sent_at if sent_at else 0.0), _outcome(received, ended)


def _exchange(sender: socket.socket, rest: memoryview, events: int) -> tuple[memoryview, bytes]:
    """Send and receive what goes; a connection that the server has ended takes no more."""
    try:
        if rest and events & select.EPOLLOUT:
            rest = rest[sender.send(rest) :]
        return rest, sender.recv(1 << 20) if events & select.EPOLLIN else b""
    except ConnectionError:
        return memoryview(b""), b""


def _outcome(received: bytes, ended: bool) -> str:
    if received[:1] == bytes([CLOSE_BYTE]):
        code = int.from_bytes(received[2:4], "big")
        return f"refused, connection closed with {code}" if len(received) >= 4 else "refused, connection closed"
    for packet, outcome in OUTCOMES.items():
        if packet in received:
            return outcome
    return "refused, connection cut" if ended else "neither refused nor answered"
