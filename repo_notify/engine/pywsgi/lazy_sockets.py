"""A connection before anything was asked of it: its raw socket, and the first bytes that came."""

from __future__ import annotations

import _socket
from typing import Any

import gevent.socket


class LazySocket:
    """A connection and the first bytes that it sent; becomes gevent's socket as soon as that is asked for anything."""

    __slots__ = ("_gevent", "_prefetched", "_raw")

    def __init__(self, raw: _socket.socket, prefetched: bytes) -> None:
        self._raw: _socket.socket | None = raw
        self._gevent: Any = None
        self._prefetched = prefetched

    def __getattr__(self, name: str) -> Any:
        if self._raw is not None:
            raw, self._raw = self._raw, None
            self._gevent = gevent.socket.socket(raw.family, raw.type, raw.proto, fileno=raw.detach())
        return getattr(self._gevent, name)

    def take_prefetched(self) -> bytes:
        """The first bytes, once."""
        prefetched, self._prefetched = self._prefetched, b""
        return prefetched

    def detach_raw(self) -> _socket.socket:
        """Take the socket from here; nothing but `close` may follow."""
        if self._raw is None:
            return detached(self._gevent)
        raw, self._raw = self._raw, None
        return raw

    def close(self) -> None:
        """Close what is still held."""
        for held in (self._raw, self._gevent):
            if held is not None:
                held.close()


def detached(held: Any) -> _socket.socket:
    """The socket under an `LazySocket` or a socket of gevent's, taken from there."""
    if type(held) is LazySocket:
        return held.detach_raw()
    # Told what it is, it need not ask the kernel three times.
    return _socket.socket(held.family, held.type, held.proto, fileno=held.detach())
