"""What one app has: the parts that `wiring` makes, and their end."""

from __future__ import annotations

from dataclasses import dataclass

from flask_socketio import SocketIO

from .access.changes import Changes
from .access.permissions import Permissions
from .access.store import Store
from .backend.assembly import Backend
from .background import Background
from .delivery.history.accounts import Accounts
from .delivery.history.history import History
from .delivery.publisher import Publisher
from .delivery.queue import FLUSH_SECONDS, Bus
from .loop_lag import LoopLag
from .membership.keeping import Keeping
from .membership.recovery import Recoveries
from .membership.revocation import Revalidation
from .metrics import Metrics
from .protocol.dialect import Dialects
from .sessions.bindings import Identities
from .sessions.ends import SessionEnds
from .sessions.express import ExpressSessions
from .sessions.host_users import HostUsers
from .settings import Settings
from .sockets import Sockets
from .web.hooks import Hooks


@dataclass(frozen=True)
class State:
    """What one app has: `app.extensions["repo_notify"]`."""

    settings: Settings
    socketio: SocketIO
    store: Store
    metrics: Metrics
    sockets: Sockets
    users: HostUsers
    express: ExpressSessions | None
    identities: Identities
    permissions: Permissions
    publisher: Publisher
    bus: Bus | None
    revalidation: Revalidation
    changes: Changes | None
    session_ends: SessionEnds
    dialects: Dialects
    background: Background
    loop_lag: LoopLag
    history: History | None
    recoveries: Recoveries | None
    accounts: Accounts
    keeping: Keeping
    backend: Backend | None
    hooks: Hooks

    def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """End the background work; what waits for the message queue is sent first, for at most `seconds`."""
        if self.changes is not None:
            self.changes.close()
        if self.backend is not None:
            self.backend.close()
        self.session_ends.close()
        if self.recoveries is not None:
            self.recoveries.close()
        self.revalidation.close()
        self.loop_lag.close()
        self.keeping.flush(seconds)
        if self.bus is not None:
            self.bus.close(seconds)
        self.store.close()
