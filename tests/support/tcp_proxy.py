"""TCP proxies in front of a broker or a database; one that falls silent, or loses an answer, when told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

SECONDS = 10.0


class Pair:
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


class Proxy:
    """A context manager; `port` is where `target` is found through it. `_pass_on` and `_answer` say how bytes pass."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[Pair] = []
        self._threads: list[threading.Thread] = []
        self._frozen = False
        self._refusing = threading.Event()

    @property
    def open(self) -> int:
        """How many connections through it have not ended."""
        return sum(pair.client.fileno() >= 0 for pair in list(self._pairs))

    @contextmanager
    def refusing(self, *, open_too: bool = True) -> Iterator[None]:
        """End each new connection at once, meanwhile, and before that every open one unless told otherwise."""
        self._refusing.set()
        for pair in list(self._pairs) if open_too else ():
            pair.shut()
        try:
            yield
        finally:
            self._refusing.clear()

    def _pass_on(self, pair: Pair) -> None:
        """Send what the client sends to the server, until it ends."""
        raise NotImplementedError

    def _answer(self, pair: Pair) -> None:
        """Send what the server sends to the client, until it ends."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._refusing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in list(self._pairs):
            pair.shut()
        for thread in self._threads:
            thread.join(SECONDS)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing.is_set():
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            pair = Pair(client, server)
            if self._frozen:
                pair.forwards.clear()
            self._pairs.append(pair)
            if self._refusing.is_set():
                # It was let in before, but nobody saw it among the open ones.
                pair.shut()
            for work, end in ((self._pass_on, client), (self._answer, server)):
                self._start(self._run, work, pair, end)

    @staticmethod
    def _run(work: Callable[[Pair], None], pair: Pair, end: socket.socket) -> None:
        # One end is gone; the other is told below.
        with suppress(OSError):
            work(pair)
        pair.shut()
        end.close()


class TcpProxy(Proxy):
    """In front of a broker on that port of this machine."""

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", target))
        self._lose_from: int | None = None
        self._refuses_then = False
        # What is awaited of clients, and of the broker.
        self._awaited: tuple[dict[bytes, threading.Semaphore], ...] = ({}, {})

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

    def lose_answer_to(self, size: int, *, refuse: bool = False) -> None:
        """Close the connection that sends the next request of at least that size, when the broker answers it.

        With `refuse` none is let in from then on, until `admit`.
        """
        self._refuses_then = refuse
        self._lose_from = size

    def passing(self, sent: bytes, *, back: bool = False) -> threading.Semaphore:
        """Return what counts how often a piece with these bytes goes from a client to the broker, or `back`."""
        passed = self._awaited[back][sent] = threading.Semaphore(0)
        return passed

    def _passed(self, data: bytes, *, back: bool) -> None:
        for sent, passed in list(self._awaited[back].items()):
            if sent in data:
                passed.release()

    def admit(self) -> None:
        """Let connections in again."""
        self._refusing.clear()

    def _pass_on(self, pair: Pair) -> None:
        received = 0
        while data := pair.client.recv(65536):
            received = received + len(data) if len(data) > 1000 else 0
            if self._lose_from is not None and received >= self._lose_from:
                self._lose_from, pair.loses_answer = None, True
                if self._refuses_then:
                    self._refusing.set()
            pair.forwards.wait()
            pair.server.sendall(data)
            self._passed(data, back=False)

    def _answer(self, pair: Pair) -> None:
        while (data := pair.server.recv(65536)) and not pair.loses_answer:
            pair.forwards.wait()
            pair.client.sendall(data)
            self._passed(data, back=True)
