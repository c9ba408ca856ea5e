"""gunicorn's gevent worker with the engine's WebSocket handler.

`gunicorn -k repo_notify.engine.pywsgi.gunicorn.Worker`.
"""

from __future__ import annotations

from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

from .handler import WebSocketHandler


class Worker(GeventWebSocketWorker):
    """Serves WSGI with gevent, WebSockets included."""

    wsgi_handler = WebSocketHandler
