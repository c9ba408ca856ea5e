"""gunicorn's gevent worker with the engine's server: `gunicorn -k repo_notify.gunicorn.Worker`.

gunicorn imports this module in its master, which is not patched. Hence nothing is imported here that opens sockets or
imports `ssl`: python-socketio, among others, imports both. The rest is imported once the worker has patched.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import gevent
from gunicorn.arbiter import Arbiter
from gunicorn.workers.ggevent import GeventPyWSGIWorker

from .errors import SettingsError
from .loaded import LOADED

INHERITANCE = frozenset({"LISTEN_FDS", "GUNICORN_FD"})


def _is_ours(listener: Any) -> bool:
    """Whether that socket of gunicorn's can stop listening and start again: a TCP port that was asked for by number."""
    if sys.platform != "linux" or listener.FAMILY not in (socket.AF_INET, socket.AF_INET6):
        return False
    return isinstance(listener.cfg_addr, tuple) and listener.cfg_addr[1] != 0


class Worker(GeventPyWSGIWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """Serves WSGI with gevent, WebSockets included; ends after `--max-requests` requests.

    A gunicorn that starts refuses connections until its first worker has loaded the app: a proxy passes them to another
    process at once, where they would wait otherwise, as gunicorn listens before it loads.

    At SIGTERM it stops accepting at once, closes the connections of every app in the process so that their clients
    reconnect elsewhere, sends what waits for the message queue, and ends.
    """

    _ending: gevent.Greenlet[[], None] | None = None
    _loaded: Sequence[object] = ()
    _inherits = False

    def __init__(self, age: int, ppid: int, sockets: Sequence[Any], *rest: Any) -> None:
        stock: Any = super()
        stock.__init__(age, ppid, sockets, *rest)
        # Later ones take the place of a worker, or stand beside one, that listens on the same sockets.
        if age == 1 and not self._inherits:
            for listener in filter(_is_ours, sockets):
                # To Linux the port stays taken, without anybody who listens: `load_wsgi` takes it up again.
                listener.shutdown(socket.SHUT_RDWR)

    @classmethod
    def setup(cls) -> None:
        """Note the apps that are loaded from now on: in the master with `--preload`, else in the worker."""
        LOADED.set([])
        # Of systemd, or of the gunicorn that this one succeeds (SIGUSR2): others listen on the sockets, too.
        cls._inherits = cls._inherits or not INHERITANCE.isdisjoint(os.environ)

    def patch(self) -> None:
        """Patch the standard library, then import what serves."""
        stock: Any = super()
        stock.patch()
        from .engine.pywsgi.draining import DrainingServer

        self._servers: list[Any] = []

        def make_server(*args: Any, **kwargs: Any) -> Any:
            server = DrainingServer(*args, **kwargs)
            self._servers.append(server)
            return server

        self.server_class = make_server

    def load_wsgi(self) -> None:
        """Load the application, and the limits that the settings of its apps name."""
        from .engine.pywsgi.draining import DrainingHandler
        from .serving import states_of, with_limits

        own: Any = self
        stock: Any = super()
        try:
            stock.load_wsgi()
        except SettingsError as error:
            own.log.critical("repo_notify does not start:\n%s", error)
            # With this code gunicorn ends; with another it would start the next worker, without end.
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        # Kept, as the handler of a signal runs in whatever context it interrupts.
        self._loaded = LOADED.get() or ()
        states = states_of(self._loaded)
        for state in states:
            state.background.serve()
        own.wsgi_handler = with_limits(DrainingHandler, [state.settings for state in states])
        if own.cfg.max_requests > 0:
            own.wsgi = self._counted(own.wsgi)
        for listener in own.sockets:
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.listen(own.cfg.backlog)

    def run(self) -> None:
        """Serve until a signal; return when the apps have ended, too."""
        stock: Any = super()
        stock.run()
        if self._ending is not None:
            self._ending.join()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End in order: gunicorn's handler of SIGTERM."""
        stock: Any = super()
        stock.handle_exit(sig, frame)
        if self._ending is None:
            # A signal's handler may not wait.
            self._ending = gevent.spawn(self._end)

    def _end(self) -> None:
        from .serving import shut_down_all, states_of

        own: Any = self
        for server in self._servers:
            server.drain()
        shut_down_all(states_of(self._loaded), own.cfg.graceful_timeout)

    def _counted(self, application: Any) -> Any:
        """The application, with its requests counted: gunicorn does that for workers whose HTTP is its own."""
        own: Any = self

        def counted(environ: dict[str, Any], start_response: Any) -> Any:
            own.nr += 1
            if own.nr == own.max_requests:
                own.log.info("Autorestarting worker after current request.")
                # As when gunicorn ends it: the clients are told (`handle_exit`).
                os.kill(own.pid, signal.SIGTERM)
            return application(environ, start_response)

        return counted
