"""gevent's WSGI server, in which a connection costs a greenlet and a gevent socket only when it has use for them.

After a deploy everybody connects at once: a greenlet that waits for the first bytes, a time limit of its own and a
socket for each request are a good part of what that costs. Here the loop waits, and a WebSocket's opening handshake,
which nearly always comes in one piece, is answered without gevent's socket ever being made.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
from time import monotonic
from typing import Any

from gevent.pywsgi import WSGIServer

from .handler import WebSocketHandler
from .lazy_sockets import LazySocket

logger = logging.getLogger(__name__)

_READ = 1
_CHUNK = 65_536
_SWEEPS = 4


class PatientServer(WSGIServer):
    """gevent's; a TLS handshake that does not come within the `patience` of its `HttpHandler` ends the connection."""

    handler_class = WebSocketHandler

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        """Serve a connection over TLS."""
        own: Any = self
        client_socket.settimeout(own.handler_class.patience)
        try:
            secured = own.wrap_socket(client_socket, **own.ssl_args)
        except OSError as error:
            logger.info("a TLS handshake failed: %s", type(error).__name__)
            return
        with contextlib.closing(secured):
            own.handle(secured, address)


class LazySocketServer(PatientServer):
    """Takes the arguments of gevent's; TLS, and a pool of greenlets that is to bound connections, are left to that.

    A handler class is a `WebSocketHandler`. Who sends nothing for its `patience`, in seconds, is closed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # By the watcher that waits for their first bytes: socket, address, and when they came; the oldest first.
        self._silent: dict[Any, tuple[_socket.socket, Any, float]] = {}
        self._sweeper: Any = None
        stock: Any = super()
        stock.__init__(*args, **kwargs)

    @property
    def _plain(self) -> bool:
        own: Any = self
        return own.pool is None and not own.ssl_enabled

    def do_read(self) -> Any:
        """Accept a connection; None where there is none."""
        own: Any = self
        stock: Any = super()
        if not self._plain:
            return stock.do_read()
        listener = own.socket
        try:
            descriptor, address = listener._accept()
        except BlockingIOError:
            return None
        raw = _socket.socket(listener.family, listener.type, listener.proto, fileno=descriptor)
        raw.setblocking(False)
        return raw, address

    def do_handle(self, *args: Any) -> None:
        """Wait for a connection's first bytes."""
        own: Any = self
        stock: Any = super()
        if not self._plain:
            stock.do_handle(*args)
            return
        raw, address = args
        watcher = own.loop.io(raw.fileno(), _READ)
        self._silent[watcher] = raw, address, monotonic()
        watcher.start(self._arrived, watcher)
        if self._sweeper is None:
            period = own.handler_class.patience / _SWEEPS
            self._sweeper = own.loop.timer(period, period)
            self._sweeper.start(self._sweep)

    def stop(self, timeout: float | None = None) -> None:
        """As gevent's; who has sent nothing until then is closed too."""
        stock: Any = super()
        stock.stop(timeout)
        self._close_silent_since(monotonic())

    def _arrived(self, watcher: Any) -> None:
        raw, address, _ = self._silent[watcher]
        try:
            prefetched = raw.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            prefetched = b""
        self._forget(watcher)
        if not prefetched:
            raw.close()
            return
        stock: Any = super()
        stock.do_handle(LazySocket(raw, prefetched), address)

    def _forget(self, watcher: Any) -> None:
        del self._silent[watcher]
        watcher.stop()
        watcher.close()

    def _sweep(self) -> None:
        own: Any = self
        self._close_silent_since(monotonic() - own.handler_class.patience)

    def _close_silent_since(self, moment: float) -> None:
        for watcher, (raw, _, since) in list(self._silent.items()):
            if since > moment:
                break
            self._forget(watcher)
            raw.close()
        if self._sweeper is not None and not self._silent:
            self._sweeper.stop()
            self._sweeper.close()
            self._sweeper = None
