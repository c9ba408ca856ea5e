"""A TCP proxy in front of the database, which counts the queries and can hold them back."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from urllib.parse import urlsplit

import bson

SECONDS = 10.0
_HEADER = struct.Struct("<i")
_FIND = b"\x02find\x00"


class MongoProxy:
    """A context manager; `uri` is where pymongo finds the database through it.

    `finds` counts queries by collection. While held back, queries wait; `asked` is set whenever one arrives.
    Answers that hold a text of `garbled` show it as bytes that are no UTF-8. Without `streams` it is a database that is
    no replica set.
    """

    def __init__(self, uri: str, *, streams: bool = True) -> None:
        self._streams = streams
        self._refuses = False
        parts = urlsplit(uri)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.uri = f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"
        self.finds: Counter[str] = Counter()
        self.asked = threading.Event()
        self.garbled: set[bytes] = set()
        self._held = b""
        self._gate = threading.Event()
        self._gate.set()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    def hold(self, database: str | None = None) -> None:
        """Keep queries from now on, until `release`; of that database alone, if one is given."""
        self._held = b"" if database is None else b"$db\x00" + _HEADER.pack(len(database) + 1) + database.encode()
        self.asked.clear()
        self._gate.clear()

    def hold_collection(self, collection: str) -> None:
        """As `hold`, for the queries of a collection; `asked` is set when one of them arrives."""
        self._held = _FIND + _HEADER.pack(len(collection) + 1) + collection.encode()
        self.asked.clear()
        self._gate.clear()

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            for open_socket in self._sockets:
                _shut(open_socket)
            self._sockets.clear()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """End every new connection at once, meanwhile."""
        self._refuses = True
        try:
            yield
        finally:
            self._refuses = False

    def release(self) -> None:
        self._gate.set()

    def __enter__(self) -> MongoProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        with self._lock:
            self._closed = True
            for open_socket in (self._listener, *self._sockets):
                _shut(open_socket)
        for thread in self._threads:
            thread.join(SECONDS)

    def _start(self, work: object, *args: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                _shut(client)
                continue
            server = socket.create_connection(self._target)
            with self._lock:
                self._sockets += [client, server]
                if self._closed:
                    _shut(client)
                    _shut(server)
                    return
            self._start(self._requests, client, server)
            self._start(self._answers, server, client)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with client.makefile("rb") as stream:
            try:
                while header := stream.read(_HEADER.size):
                    (length,) = _HEADER.unpack(header)
                    message = header + stream.read(length - _HEADER.size)
                    self._count(message)
                    if not self._streams and b"$changeStream\x00" in message:
                        client.sendall(_no_replica_set(message))
                    else:
                        server.sendall(message)
            except OSError:
                pass  # one end is gone; the other is told below
        _shut(server)

    def _count(self, message: bytes) -> None:
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

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                for text in self.garbled:
                    data = data.replace(text, b"\xff" * len(text))
                client.sendall(data)
        except OSError:
            pass  # one end is gone; the other is told below
        _shut(client)


def _no_replica_set(question: bytes) -> bytes:
    """Return what MongoDB answers to a change stream where it is no replica set."""
    text = "The $changeStream stage is only supported on replica sets"
    body = bson.encode({"ok": 0.0, "errmsg": text, "code": 40573, "codeName": "Location40573"})
    (request_id,) = struct.unpack_from("<i", question, 4)
    # A header, no flags, and one section that is a document (MongoDB wire protocol, "OP_MSG").
    return struct.pack("<iiiiIB", 21 + len(body), 1, request_id, 2013, 0, 0) + body


def _shut(open_socket: socket.socket) -> None:
    try:
        open_socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other end was first
    finally:
        open_socket.close()
