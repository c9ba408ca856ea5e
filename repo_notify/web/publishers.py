"""The Socket.IO namespace in which publishers keep a connection open, named like the route (spec section 5)."""

from __future__ import annotations

import logging

import socketio

from repo_notify.settings import Settings
from repo_notify.sockets import Sockets

from .publishing import Publishing

logger = logging.getLogger(__name__)


def admit_publishers(server: socketio.Server, sockets: Sockets, publishing: Publishing, settings: Settings) -> None:
    """Let publishers enter their namespace, and have what they send published; not where it is the host's or ours."""
    namespace = f"{settings.http_prefix}/events"
    if any(namespace in taken for taken in (sockets.namespaces, server.handlers, server.namespace_handlers)):
        logger.warning("the app has a namespace %s of its own; repo_notify leaves it alone", namespace)
        return
    sockets.admit_publishers(namespace, publishing.refusal, publishing.acknowledge)
