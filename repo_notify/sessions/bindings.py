"""Who is on which socket: session cookie, query parameter, `x-socket-id`, and the end of sessions (spec section 2).

A binding belongs to the Engine.IO connection and so covers all its namespaces. This module owns it.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Literal, Protocol

from repo_notify.logs import connection_label

from .reads import SessionsUnavailable

logger = logging.getLogger(__name__)

# A message to a session that has just ended comes another way than the word of its end, and still finds its sockets.
GRACE_SECONDS = 5.0
# Of so many sessions at most.
MAX_ENDED = 10_000

Outcome = Literal["bound", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and the login session on a connection; `session_id` is None where the host's loader needs none.

    `named`: the connection did not bring the session, a request named the socket by `x-socket-id`.
    """

    username: str
    session_id: str | None
    named: bool = False


class Handshakes(Protocol):
    """Reads the sessions that handshakes bring."""

    def read(self, environ: Mapping[str, Any]) -> Identity | None:
        """Return the user of a handshake, None where there is none; raises `SessionsUnavailable`."""

    def probe(self) -> None:
        """Ask the session store for a sign of life where sessions are in one; raises what the store raises."""


class Identities:
    """The bindings of one app's connections: connection -> identity, and session -> connections."""

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        # Told of each connection whose identity has changed.
        self.changed: Callable[[str], None] | None = None
        self._lock = threading.Lock()
        self._of: dict[str, Identity] = {}
        self._unread: dict[str, Mapping[str, Any]] = {}
        self._connections: dict[str, set[str]] = {}
        self._ended: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()

    def opened(self, connection: str, environ: Mapping[str, Any]) -> None:
        """Bind a new connection to the user of its handshake, if there is one.

        Where the session store does not answer, the handshake is kept and read again at the first join.
        """
        try:
            found = self._handshakes.read(environ)
        except SessionsUnavailable:
            # A copy: the engine keeps less of a handshake than a loader may ask for.
            self._unread[connection] = dict(environ)
            return
        if found is not None:
            self.bind(connection, found)

    def closed(self, connection: str) -> None:
        """Forget a connection."""
        self._unread.pop(connection, None)
        with self._lock:
            self._release(connection)

    def of(self, connection: str) -> Identity | None:
        """Return who is on the connection, or None; raises `SessionsUnavailable` while the store is out of reach."""
        if (environ := self._unread.get(connection)) is not None:
            found = self._handshakes.read(environ)
            if self._unread.pop(connection, None) is not None and found is not None:
                self.bind(connection, found)
        return self._of.get(connection)

    def known(self, connection: str) -> Identity | None:
        """Return who is on the connection as far as that was read; asks no session store."""
        return self._of.get(connection)

    def bind(self, connection: str, identity: Identity) -> Outcome:
        """Bind the connection; a socket of one user is never given to another, a newer session takes it over."""
        with self._lock:
            bound = self._of.get(connection)
            if bound is not None and bound.username != identity.username:
                logger.warning(
                    "connection %s: bound to one user, it was named by a request of another; it stays as it is",
                    connection_label(connection),
                )
                return "refused"
            self._hold(connection, identity)
        self._told_of(connection)
        return "bound"

    def move(self, connection: str, identity: Identity) -> bool:
        """Bind the connection by the backend's own word, whoever is on it; return whether it was another's before.

        Then the caller takes it out of its rooms. A connection that has this session already stays as it is.
        """
        with self._lock:
            bound = self._of.get(connection)
            if bound is not None and (bound.username, bound.session_id) == (identity.username, identity.session_id):
                return False
            # As by `x-socket-id`: it is not the connection that has brought this session.
            self._hold(connection, replace(identity, named=True))
        self._told_of(connection)
        return bound is not None

    def end(self, session_ids: Iterable[str], *, told: bool = False) -> list[str]:
        """Unbind every connection of these sessions and return them.

        `told`: the caller tells their clients, so that no later message to the session is for them.
        """
        with self._lock:
            by_session = {sid: tuple(self._connections.get(sid, ())) for sid in session_ids}
            ended = sorted({found for connections in by_session.values() for found in connections})
            for connection in ended:
                self._release(connection)
            if not told:
                self._keep_ended(by_session)
        if self.changed is not None:
            for connection in ended:
                self.changed(connection)
        return ended

    def has_session(self, session_id: str) -> bool:
        """Return whether a connection is bound to the session."""
        return session_id in self._connections

    def connections_of(self, session_id: str) -> list[str]:
        """Return the connections of a session, also where it has ended within the last five seconds.

        Of an ended session those that nobody is on since.
        """
        if (bound := self._connections.get(session_id)) is not None:
            return list(bound)
        ended = self._ended.get(session_id)
        if ended is None or monotonic() - ended[0] > GRACE_SECONDS:
            return []
        return [connection for connection in ended[1] if connection not in self._of]

    def bound(self) -> list[str]:
        """Return every connection that somebody is on."""
        return list(self._of)

    def sessions(self) -> list[str]:
        """Return every session that a connection is bound to."""
        return list(self._connections)

    def _hold(self, connection: str, identity: Identity) -> None:
        self._release(connection)
        self._of[connection] = identity
        if identity.session_id is not None:
            self._connections.setdefault(identity.session_id, set()).add(connection)

    def _told_of(self, connection: str) -> None:
        self._unread.pop(connection, None)
        if self.changed is not None:
            self.changed(connection)

    def _keep_ended(self, by_session: Mapping[str, tuple[str, ...]]) -> None:
        now = monotonic()
        for session_id, connections in by_session.items():
            if connections:
                self._ended[session_id] = (now, connections)
                self._ended.move_to_end(session_id)
        while self._ended and (
            len(self._ended) > MAX_ENDED or now - next(iter(self._ended.values()))[0] > GRACE_SECONDS
        ):
            self._ended.popitem(last=False)

    def _release(self, connection: str) -> None:
        bound = self._of.pop(connection, None)
        if bound is None or bound.session_id is None:
            return
        connections = self._connections[bound.session_id]
        connections.discard(connection)
        if not connections:
            del self._connections[bound.session_id]
