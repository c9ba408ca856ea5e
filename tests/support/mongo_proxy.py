"""A TCP proxy in front of the database, which counts the queries and can hold them back."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.tcp_proxy import SECONDS, Pair, Proxy

_HEADER = struct.Struct("<i")
_FIND = b"\x02find\x00"


class MongoProxy(Proxy):
    """A context manager; `uri` is where pymongo finds the database through it.

    `finds` counts queries by collection. While held back, queries wait; `asked` is set whenever one arrives.
    Answers that hold a text of `garbled` show it as bytes that are no UTF-8.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        assert parts.hostname is not None
        assert parts.port is not None
        super().__init__((parts.hostname, parts.port))
        self.uri = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        self.finds: Counter[str] = Counter()
        self.asked = threading.Event()
        self.garbled: set[bytes] = set()
        self._held = b""
        self._gate = threading.Event()
        self._gate.set()
        self._lock = threading.Lock()

    def hold(self, database: str | None = None) -> None:
        """Keep queries from now on, until `release`; of that database alone, if one is given."""
        self._held = b"" if database is None else b"$db\x00" + _HEADER.pack(len(database) + 1) + database.encode()
        self.asked.clear()
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        super().__exit__(kind, error, trace)

    def _pass_on(self, pair: Pair) -> None:
        with pair.client.makefile("rb") as stream:
            while header := stream.read(_HEADER.size):
                (length,) = _HEADER.unpack(header)
                message = header + stream.read(length - _HEADER.size)
                self._count(message)
                pair.server.sendall(message)

    def _count(self, message: bytes) -> None:
        at = message.find(_FIND)
        if at < 0:
            return
        start = at + len(_FIND) + _HEADER.size
        collection = message[start : message.index(b"\x00", start)].decode()
        with self._lock:
            self.finds[collection] += 1
        self.asked.set()
        if self._held in message:
            self._gate.wait(SECONDS)

    def _answer(self, pair: Pair) -> None:
        while data := pair.server.recv(65536):
            for text in self.garbled:
                data = data.replace(text, b"\xff" * len(text))
            pair.client.sendall(data)
