"""The parts that stand in the place of a 3D Repo backend's chat service, put together for one app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_notify.access.permissions import Permissions
from repo_notify.delivery.publisher import Publisher
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialects
from repo_notify.sessions.bindings import Identities, Identity
from repo_notify.settings import Settings
from repo_notify.sockets import Sockets

from .bridge import Bridge
from .exchange import Exchange
from .sessions import SessionMessages

IdentityOf = Callable[[str], "Identity | None"]


@dataclass(frozen=True)
class Backend:
    """What one app has of a 3D Repo backend: its exchange, and what is made of its messages."""

    exchange: Exchange
    sessions: SessionMessages


def make_backend(
    settings: Settings,
    server: Any,
    sockets: Sockets,
    identities: Identities,
    permissions: Permissions,
    publisher: Publisher,
    metrics: Metrics,
    *,
    dialects: Dialects,
    identity_of: IdentityOf,
    missed: Callable[[], None],
) -> Backend | None:
    """Return the parts, None where REPO_NOTIFY_BACKEND_QUEUE is not set; raises `SettingsError` without its libraries.

    `identity_of(session_id)` reads who is logged in, None for nobody; `missed` as in `Exchange`.
    """
    if settings.backend_queue is None:
        return None
    sessions = SessionMessages(
        sockets,
        identities,
        identity_of=identity_of,
        end=publisher.end_silently,
        spawn=server.start_background_task,
        sleep=server.sleep,
    )
    bridge = Bridge(dialects, publisher.pass_on, sessions, metrics, invalidate=permissions.invalidate)
    url, name = settings.backend_queue, settings.backend_exchange
    exchange = Exchange(url, name, bridge.receive, metrics, missed=missed, sleep=server.sleep)
    return Backend(exchange, sessions)
