"""Certificates of the tests' own, and TLS for a client that reads in one thread and writes in another.

CPython up to 3.12 leaves it to the caller that one thread at a time uses a TLS connection. python-socketio's client
reads and writes at once, and now and then takes what the other thread was told for the connection's end.
"""

from __future__ import annotations

import select
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import trustme

T = TypeVar("T")


class OneAtATime(ssl.SSLSocket):
    """Reads and writes by turns, and waits between them, up to the timeout."""

    _turn: threading.Lock
    _seconds: float | None = None

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands; from then on nothing waits within OpenSSL."""
        super().settimeout(self._seconds)
        super().do_handshake(block)
        super().settimeout(0)
        self._turn = threading.Lock()

    def settimeout(self, seconds: float | None) -> None:
        self._seconds = seconds

    def gettimeout(self) -> float | None:
        return self._seconds

    def recv(self, *arguments: Any) -> bytes:
        return self._by_turns(lambda: super(OneAtATime, self).recv(*arguments))

    def send(self, *arguments: Any) -> int:
        return self._by_turns(lambda: super(OneAtATime, self).send(*arguments))

    def _by_turns(self, call: Callable[[], T]) -> T:
        while True:
            try:
                with self._turn:
                    return call()
            except ssl.SSLWantReadError:
                self._wait([self], [])
            except ssl.SSLWantWriteError:
                self._wait([], [self])

    def _wait(self, to_read: list[OneAtATime], to_write: list[OneAtATime]) -> None:
        if not any(select.select(to_read, to_write, [], self._seconds)):
            raise TimeoutError("timed out")


def client_context(authority: str) -> ssl.SSLContext:
    """A context that trusts who signed with the certificate in that file."""
    context = ssl.create_default_context(cafile=authority)
    context.sslsocket_class = OneAtATime
    return context


def certificates(folder: Path) -> tuple[Path, Path]:
    """Write who signed, and a certificate for `localhost` with its key, into the folder; return the two files."""
    authority, certificate = folder / "authority.pem", folder / "certificate.pem"
    signer = trustme.CA()
    signer.cert_pem.write_to_path(str(authority))
    signer.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    return authority, certificate
