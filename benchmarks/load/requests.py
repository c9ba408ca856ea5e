"""HTTP requests as fast as a server answers them, over connections that stay open."""

from __future__ import annotations

import re
import select
import socket
import time
from typing import NamedTuple

from benchmarks.load.audience import LoadError

END = b"\r\n\r\n"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def post_request(host: str, port: int, path: str, body: bytes, key: str) -> bytes:
    """Return a prebuilt POST of JSON with a bearer key."""
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


class Repeated(NamedTuple):
    """How often a request was answered in how many seconds."""

    answers: int
    seconds: float


def repeat(host: str, port: int, request: bytes, connections: int, seconds: float) -> Repeated:
    """Send `request` again and again over each of the connections, one at a time.

    Raises `LoadError` when an answer is not 202.
    """
    clients = {}
    epoll = select.epoll()
    for _ in range(connections):
        client = socket.create_connection((host, port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients[client.fileno()] = client
        epoll.register(client, select.EPOLLIN)
    buffers = dict.fromkeys(clients, b"")
    started = time.monotonic()
    for client in clients.values():
        client.sendall(request)
    answers = 0
    while time.monotonic() - started < seconds:
        for number, _ in epoll.poll(1.0):
            buffers[number] += clients[number].recv(65_536)
            if _answered(buffers[number]):
                answers += 1
                buffers[number] = b""
                clients[number].sendall(request)
    elapsed = time.monotonic() - started
    epoll.close()
    for client in clients.values():
        client.close()
    return Repeated(answers, elapsed)


def _answered(received: bytes) -> bool:
    """Whether the whole answer is there."""
    if received and not received.startswith(b"HTTP/1.1 202"[: len(received)]):
        raise LoadError(f"a request was not accepted: {received[:200]!r}")
    head, end, body = received.partition(END)
    found = LENGTH.search(head)
    return bool(end) and found is not None and len(body) >= int(found[1])
