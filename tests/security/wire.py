"""HTTP byte by byte: what a server answers, and whether it closes."""

from __future__ import annotations

import select
import socket
from http.client import HTTPResponse
from time import monotonic
from typing import NamedTuple

SECONDS = 30.0
_CHUNK = 65_536


def connect(port: int, receives: int | None = None) -> socket.socket:
    """A bare TCP connection to a server on this machine; `receives`: how many bytes may wait to be read from it."""
    found = socket.socket()
    if receives is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    found.settimeout(SECONDS)
    found.connect(("127.0.0.1", port))
    return found


def until_closed(raw: socket.socket, within: float, feed: bytes = b"") -> bytes:
    """What the server sends until it closes, while `feed` is sent again and again; fails where it does not close."""
    found, ends = b"", monotonic() + within
    raw.setblocking(False)
    while (left := ends - monotonic()) > 0:
        readable, writable, _ = select.select([raw], [raw] if feed else [], [], left)
        try:
            if readable:
                data = raw.recv(_CHUNK)
                if not data:
                    return found
                found += data
            if writable:
                raw.send(feed)
        except (ConnectionResetError, BrokenPipeError):
            return found
    raise AssertionError(f"the connection is open after {within} s; it said {found[:200]!r}")


def until_refused(raw: socket.socket, within: float, feed: bytes) -> None:
    """Send `feed` again and again, and read nothing, until the server has closed; fails where it does not."""
    ends = monotonic() + within
    raw.setblocking(False)
    while (left := ends - monotonic()) > 0:
        _, writable, _ = select.select([], [raw], [], left)
        try:
            if writable:
                raw.send(feed)
        except (ConnectionResetError, BrokenPipeError):
            return
    raise AssertionError(f"the connection is open after {within} s")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def answer(raw: socket.socket, method: str = "GET") -> Answer:
    """The next answer on the connection."""
    with HTTPResponse(raw, method=method) as found:
        found.begin()
        return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())


def asked(port: int, request: bytes) -> Answer:
    """The answer to one request."""
    with connect(port) as raw:
        raw.sendall(request)
        return answer(raw, request.partition(b" ")[0].decode())
