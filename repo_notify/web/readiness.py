"""Whether the process is ready: it reads what permissions read, asks the session store, and looks at the queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Literal, NamedTuple

from repo_notify.access.permissions import Permissions
from repo_notify.access.store import Store, Unreachable
from repo_notify.backend.assembly import Backend
from repo_notify.bounded import Bounded, TooSlow
from repo_notify.delivery.queue import Bus
from repo_notify.sessions.bindings import Handshakes

logger = logging.getLogger(__name__)

# Probes wait for a second.
READY_SECONDS = 0.8

SILENT = "MongoDB does not answer"
REFUSES_ACCOUNTS = (
    "MongoDB does not let the service read the accounts: grant its user `find` on REPO_NOTIFY_USERS_COLLECTION in admin"
)
REFUSES_TEAMSPACES = (
    "MongoDB does not let the service read a teamspace: grant its user `read` on the teamspaces' databases"
)
FAILED_LOGIN = "MongoDB refuses the service's login: correct the user and password in REPO_NOTIFY_MONGO_URI"
# What logs its own state.
_LOGS_ITSELF = frozenset({"message_queue", "history", "backend_queue"})
STOPPING = "the service ends, and sends its clients away"
SESSIONS_SILENT = "the session store does not answer"

Status = Literal["ok", "degraded", "unavailable"]


class Readiness(NamedTuple):
    """How ready the process is; `reasons` says why not, by the part that it concerns."""

    status: Status
    reasons: Mapping[str, str]


def why_unread(error: Unreachable, refused: str) -> str:
    """Return what kept the database from being read, `refused` where it was for want of a right."""
    if error.is_failed_login:
        return FAILED_LOGIN
    return refused if error.is_refusal else SILENT


class _Trouble(NamedTuple):
    """What is wrong with one part; a process that is not `fatal`ly hit serves on."""

    fatal: bool
    text: str
    detail: str = ""


class Probes:
    """Asks what one app's process depends on, all within READY_SECONDS, and logs each change once.

    A lost queue leaves a process degraded and not unready: it serves its own clients as before. So does a history's
    store that does not answer; `history()` returns what is wrong with it. A lost exchange of a backend leaves it
    unready, since its clients hear of nothing any more.
    """

    def __init__(
        self,
        store: Store,
        permissions: Permissions,
        handshakes: Handshakes,
        bus: Bus | None,
        bounded: Bounded[Any],
        history: Callable[[], str | None] = lambda: None,
        backend: Backend | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._backend = backend
        self._is_stopping = is_stopping
        self._history = history
        self._store = store
        self._permissions = permissions
        self._handshakes = handshakes
        self._bus = bus
        self._bounded = bounded
        self._logged: set[str] = set()

    def readiness(self) -> Readiness:
        """Return how ready the process is."""
        if self._is_stopping():
            return Readiness("unavailable", {"service": STOPPING})
        deadline = monotonic() + READY_SECONDS
        probes: Mapping[str, Callable[[float], _Trouble | None]] = {
            "mongodb": self._mongodb,
            "session_store": self._sessions,
            "message_queue": self._queue,
            "history": self._history_store,
            "backend_queue": self._backend_queue,
        }
        asked = {name: probe(deadline - monotonic()) for name, probe in probes.items()}
        found = {name: trouble for name, trouble in asked.items() if trouble is not None}
        self._log(found)
        reasons = {name: trouble.text for name, trouble in found.items()}
        if any(trouble.fatal for trouble in found.values()):
            return Readiness("unavailable", reasons)
        return Readiness("degraded" if found else "ok", reasons)

    def _mongodb(self, seconds: float) -> _Trouble | None:
        # An app with rights of its own may have no MongoDB.
        if self._permissions.loader is not None:
            return None
        try:
            trouble: _Trouble | None = self._bounded(lambda: self._read(seconds), seconds)
        except Unreachable as error:
            return _Trouble(True, why_unread(error, REFUSES_ACCOUNTS), str(error))
        except TooSlow as error:
            return _Trouble(True, SILENT, str(error))
        return trouble

    def _read(self, seconds: float) -> _Trouble | None:
        with self._store.within(seconds):
            known = self._permissions.last_read
            teamspace = known or self._store.any_account()
            self._store.account(teamspace or "")
        if not teamspace:
            return None
        try:
            with self._store.within(seconds):
                self._store.try_reads(teamspace)
        except Unreachable as error:
            if not error.is_refusal:
                raise
            # Some account's teamspace need not be one that this service is for.
            return _Trouble(known is not None, REFUSES_TEAMSPACES, str(error))
        return None

    def _sessions(self, seconds: float) -> _Trouble | None:
        # MongoDB has taken all the time; that is said already.
        if seconds <= 0:
            return None
        try:
            self._bounded(self._handshakes.probe, seconds)
        # Each store raises its own kinds.
        except Exception as error:  # noqa: BLE001 - as above; it is logged
            return _Trouble(True, SESSIONS_SILENT, f"{type(error).__name__}: {error}")
        return None

    def _queue(self, _: float) -> _Trouble | None:
        problem = self._bus.problem() if self._bus is not None else None
        return _Trouble(False, problem) if problem else None

    def _history_store(self, _: float) -> _Trouble | None:
        problem = self._history()
        return _Trouble(False, problem) if problem else None

    def _backend_queue(self, _: float) -> _Trouble | None:
        problem = self._backend.problem() if self._backend is not None else None
        return _Trouble(True, problem) if problem else None

    def _log(self, found: Mapping[str, _Trouble]) -> None:
        for name in found.keys() - self._logged - _LOGS_ITSELF:
            logger.warning("readiness: %s: %s", found[name].text, found[name].detail)
        for name in self._logged - found.keys():
            logger.warning("readiness: %s is back", name)
        self._logged = set(found) - _LOGS_ITSELF
