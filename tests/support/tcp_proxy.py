"""A TCP proxy in front of a broker that falls silent, or loses an answer, when told to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

SECONDS = 10.0


class _Pair:
    """One connection through the proxy: both its sockets, and whether it still forwards."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.forwards = threading.Event()
        self.forwards.set()
        self.loses_answer = False

    def shut(self) -> None:
        self.forwards.set()
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class TcpProxy:
    """A context manager; `port` is where the broker is found through it."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._lose_from: int | None = None
        self._frozen = False

    def freeze(self, *, new_too: bool = False) -> None:
        """Let the connections that are open stay open and silent; later ones work unless `new_too`."""
        self._frozen = new_too
        for pair in list(self._pairs):
            pair.forwards.clear()

    def thaw(self) -> None:
        """Forward again, what was kept first."""
        self._frozen = False
        for pair in list(self._pairs):
            pair.forwards.set()

    @property
    def accepted(self) -> int:
        """How many connections were opened through it."""
        return len(self._pairs)

    @property
    def open(self) -> int:
        """How many of them have not ended."""
        return sum(pair.client.fileno() >= 0 for pair in list(self._pairs))

    def lose_answer_to(self, size: int) -> None:
        """Close the connection that sends the next request of at least that size, when the broker answers it."""
        self._lose_from = size

    def __enter__(self) -> TcpProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in list(self._pairs):
            pair.shut()
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
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            pair = _Pair(client, server)
            if self._frozen:
                pair.forwards.clear()
            self._pairs.append(pair)
            self._start(self._requests, pair)
            self._start(self._answers, pair)

    def _requests(self, pair: _Pair) -> None:
        received = 0
        with suppress(OSError):
            while data := pair.client.recv(65536):
                received = received + len(data) if len(data) > 1000 else 0
                if self._lose_from is not None and received >= self._lose_from:
                    self._lose_from, pair.loses_answer = None, True
                pair.forwards.wait()
                pair.server.sendall(data)
        pair.shut()
        pair.client.close()

    @staticmethod
    def _answers(pair: _Pair) -> None:
        with suppress(OSError):
            while (data := pair.server.recv(65536)) and not pair.loses_answer:
                pair.forwards.wait()
                pair.client.sendall(data)
        pair.shut()
        pair.server.close()
