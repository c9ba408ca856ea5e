"""gunicorn's gevent worker with the engine's WebSocket handler: `gunicorn -k repo_notify.engine.gunicorn.Worker`."""

from __future__ import annotations

from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

from .websocket import WebSocketHandler


class Worker(GeventWebSocketWorker):
    """Serves WSGI with gevent, WebSockets included."""

    wsgi_handler = WebSocketHandler
