"""gunicorn's gevent worker with the engine's WebSocket handler.

`gunicorn -k repo_notify.gunicorn.Worker`.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

from .engine.pywsgi.handler import WebSocketHandler
from .engine.pywsgi.server import PatientServer


class Worker(GeventWebSocketWorker):
    """Serves WSGI with gevent, WebSockets included; ends after `--max-requests` requests."""

    server_class = PatientServer
    wsgi_handler = WebSocketHandler

    def load_wsgi(self) -> None:
        """Load the application, and the limits that its settings name."""
        # Only now has gunicorn patched what the application's modules import.
        from .serving import with_limits

        stock: Any = super()
        stock.load_wsgi()
        own: Any = self
        own.wsgi_handler = with_limits(WebSocketHandler, own.wsgi)
        if own.cfg.max_requests > 0:
            own.wsgi = self._counted(own.wsgi)

    def _counted(self, application: Any) -> Any:
        """The application, with its requests counted: gunicorn does that for workers whose HTTP is its own."""
        own: Any = self

        def counted(environ: dict[str, Any], start_response: Any) -> Any:
            own.nr += 1
            if own.nr == own.max_requests:
                own.log.info("Autorestarting worker after current request.")
                # As when gunicorn ends it: the application's handler tells the clients (`end_with_process`).
                os.kill(own.pid, signal.SIGTERM)
            return application(environ, start_response)

        return counted
