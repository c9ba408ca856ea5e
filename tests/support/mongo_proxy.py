"""A TCP proxy in front of the database, which counts the queries and can hold them back."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit

import bson

from tests.support.tcp_proxy import SECONDS, Pair, Proxy

_HEADER = struct.Struct("<i")
_FIND = b"\x02find\x00"
# By these a driver finds out who is primary; they are answered by whoever is not, too.
_HELLO = (b"hello\x00", b"ismaster\x00", b"isMaster\x00")


class Failure(NamedTuple):
    """What a server answers to a command that has failed."""

    code: int
    text: str
    labels: tuple[str, ...] = ()


# What MongoDB answers to a change stream where it is no replica set.
NO_REPLICA_SET = Failure(40573, "The $changeStream stage is only supported on replica sets")


def _of(database: str) -> bytes:
    """Return what is in every message to a database."""
    return b"$db\x00" + _HEADER.pack(len(database) + 1) + database.encode()


def _failure(question: bytes, failure: Failure) -> bytes:
    """Return the answer that a question has failed."""
    code, text, labels = failure
    body = bson.encode(
        {"ok": 0.0, "errmsg": text, "code": code, "codeName": f"Location{code}", "errorLabels": list(labels)}
    )
    (request_id,) = struct.unpack_from("<i", question, 4)
    # A header, no flags, and one section that is a document (MongoDB wire protocol, "OP_MSG").
    return struct.pack("<iiiiIB", 21 + len(body), 1, request_id, 2013, 0, 0) + body


class MongoProxy(Proxy):
    """A context manager; `uri` is where pymongo finds the database through it.

    `finds` counts queries by collection. While held back, queries wait; `asked` is set whenever one arrives.
    Answers that hold a text of `garbled` show it as bytes that are no UTF-8. Without `streams` it is a database that is
    no replica set. A change stream that is to go on from a token is answered with `no_resuming`, if that is set, and
    every command with `no_primary`, as while the members of a replica set elect another one.
    """

    def __init__(self, uri: str, *, streams: bool = True) -> None:
        self._streams = streams
        parts = urlsplit(uri)
        assert parts.hostname is not None
        assert parts.port is not None
        super().__init__((parts.hostname, parts.port))
        self.uri = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        self.finds: Counter[str] = Counter()
        self.asked = threading.Event()
        self.garbled: set[bytes] = set()
        self.no_resuming: Failure | None = None
        self.no_primary: Failure | None = None
        self._held = b""
        self._closed: bytes | None = None
        self._opened = threading.Event()
        self._gate = threading.Event()
        self._gate.set()
        self._lock = threading.Lock()

    def hold(self, database: str | None = None) -> None:
        """Keep queries from now on, until `release`; of that database alone, if one is given."""
        self._held = b"" if database is None else _of(database)
        self.asked.clear()
        self._gate.clear()

    def hold_collection(self, collection: str) -> None:
        """As `hold`, for the queries of a collection; `asked` is set when one of them arrives."""
        self._held = _FIND + _HEADER.pack(len(collection) + 1) + collection.encode()
        self.asked.clear()
        self._gate.clear()

    def hold_all(self, database: str) -> None:
        """Keep whatever is asked of a database, or written to it, until `release`."""
        self._closed = _of(database)
        self._opened.clear()

    def release(self) -> None:
        self._closed = None
        self._opened.set()
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
                refusal = self._refusal(message)
                if refusal is not None:
                    pair.client.sendall(_failure(message, refusal))
                else:
                    pair.server.sendall(message)

    def _refusal(self, message: bytes) -> Failure | None:
        if self.no_primary is not None and not any(word in message for word in _HELLO):
            return self.no_primary
        if b"$changeStream\x00" not in message:
            return None
        if not self._streams:
            return NO_REPLICA_SET
        return self.no_resuming if b"resumeAfter\x00" in message else None

    def move(self, uri: str) -> None:
        """Let new connections end at the database at `uri`."""
        parts = urlsplit(uri)
        self._target = (str(parts.hostname), int(parts.port or 0))

    def _count(self, message: bytes) -> None:
        if self._closed is not None and self._closed in message:
            self._opened.wait(SECONDS)
        at = message.find(_FIND)
        if at < 0:
            return
        start = at + len(_FIND) + _HEADER.size
        collection = message[start : message.index(b"\x00", start)].decode()
        with self._lock:
            self.finds[collection] += 1
        if self._held in message:
            self.asked.set()
            self._gate.wait(SECONDS)

    def _answer(self, pair: Pair) -> None:
        while data := pair.server.recv(65536):
            for text in self.garbled:
                data = data.replace(text, b"\xff" * len(text))
            pair.client.sendall(data)
