"""The parts that stand in the place of a 3D Repo backend's chat service, put together for one app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_notify.access.permissions import Permissions
from repo_notify.delivery.publisher import Publisher
from repo_notify.errors import SettingsError
from repo_notify.metrics import Metrics
from repo_notify.protocol.dialect import Dialects
from repo_notify.sessions.bindings import Identities
from repo_notify.sessions.express import ExpressSessions
from repo_notify.settings import Settings
from repo_notify.sockets import Sockets

from .bridge import Bridge
from .exchange import Exchange
from .sessions import SessionMessages

NOT_SHARED = (
    "REPO_NOTIFY_HISTORY should be memory or mongodb where REPO_NOTIFY_BACKEND_QUEUE is set: processes that share a "
    "history would each put the backend's messages into it"
)


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
    express: ExpressSessions | None,
    missed: Callable[[], None],
) -> Backend | None:
    """Return the parts, None where REPO_NOTIFY_BACKEND_QUEUE is not set; raises `SettingsError` without its libraries.

    Who is logged in is read from the `express` sessions; without them nobody is moved. `missed` as in `Exchange`.
    """
    if settings.backend_queue is None:
        return None
    if settings.shares_history:
        raise SettingsError([NOT_SHARED])
    sessions = SessionMessages(
        sockets,
        identities,
        identity_of=express.identity if express is not None else lambda _: None,
        end=publisher.end_silently,
        spawn=server.start_background_task,
        sleep=server.sleep,
    )
    bridge = Bridge(dialects, publisher.pass_on, sessions, metrics, invalidate=permissions.invalidate)
    url, name = settings.backend_queue, settings.backend_exchange
    exchange = Exchange(url, name, bridge.receive, metrics, missed=missed, sleep=server.sleep)
    return Backend(exchange, sessions)
