"""What a backend says of login sessions: to their sockets, or of who is on them (spec section 11).

Most ids are nobody's here: every page that somebody loads without logging in names three.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from time import monotonic

from repo_notify.logs import Rarely
from repo_notify.sessions.bindings import Identities, Identity
from repo_notify.sockets import Sockets, leave_all

from .messages import LoggedIn, ToSessions

logger = logging.getLogger(__name__)

# The backend tells of a login before it has saved the session: for so long it is looked for again, in seconds.
LOGIN_SECONDS = 2.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 0.4


class SessionMessages:
    """Carries out what the backend says of sessions, on the sockets of this process.

    `identity_of(session_id)` reads who is logged in, None for nobody, and may wait; `end(session_ids)` ends sessions
    without a word; `spawn` runs something beside the messages, where `sleep` waits.
    """

    def __init__(
        self,
        sockets: Sockets,
        identities: Identities,
        *,
        identity_of: Callable[[str], Identity | None],
        end: Callable[[Sequence[str]], None],
        spawn: Callable[[Callable[[], None]], object],
        sleep: Callable[[float], object],
    ) -> None:
        self._sockets = sockets
        self._identities = identities
        self.identity_of = identity_of
        self._end = end
        self._spawn = spawn
        self._sleep = sleep
        # Connections whose login is being read, each with the last session that it was said to have; and the reverse.
        self._logins: dict[str, str] = {}
        self._awaited: dict[str, set[str]] = {}
        self._lock = sockets.new_lock()
        self._rarely = Rarely()

    def tell(self, message: ToSessions) -> None:
        """Send an event to the sockets of sessions, those that ended a moment ago among them; nothing else changes."""
        found = [one for sid in message.session_ids for one in self._identities.connections_of(sid)]
        if not found:
            return
        skip = self._sockets.resolve(message.emitter) if message.emitter is not None else None
        for connection in dict.fromkeys(found):
            if connection != skip:
                for socket in self._sockets.of(connection):
                    socket.emit(message.name, message.data)

    def logged_out(self, session_ids: Sequence[str]) -> None:
        """End sessions: their sockets leave their rooms and hear nothing of it."""
        if self._awaited:
            for session_id in session_ids:
                for connection in list(self._awaited.get(session_id, ())):
                    self._forget(connection)
        self._end(session_ids)

    def logged_in(self, message: LoggedIn) -> None:
        """Put a socket on a session, once that can be read; a socket of another session or user is moved."""
        if message.socket_id is None or (connection := self._sockets.resolve(message.socket_id)) is None:
            return
        session_id = message.session_id
        if self._logins.get(connection) == session_id:
            return
        self._forget(connection)
        if not self._is_on(connection, session_id):
            with self._lock:
                self._logins[connection] = session_id
                self._awaited.setdefault(session_id, set()).add(connection)
            self._spawn(lambda: self._log_in(connection, session_id))

    def _is_on(self, connection: str, session_id: str) -> bool:
        known = self._identities.known(connection)
        return known is not None and known.session_id == session_id

    def _forget(self, connection: str) -> None:
        """Take note that no login of the connection is being read any more."""
        with self._lock:
            if (session_id := self._logins.pop(connection, None)) is not None:
                others = self._awaited[session_id]
                others.discard(connection)
                if not others:
                    del self._awaited[session_id]

    def _log_in(self, connection: str, session_id: str) -> None:
        deadline, pause = monotonic() + LOGIN_SECONDS, FIRST_PAUSE_SECONDS
        while self._logins.get(connection) == session_id:
            identity = self._read(session_id)
            if identity is not None:
                self._move(connection, session_id, identity)
                return
            if monotonic() >= deadline:
                self._forget(connection)
                return
            self._sleep(min(pause, max(0.0, deadline - monotonic())))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _read(self, session_id: str) -> Identity | None:
        try:
            return self.identity_of(session_id)
        # Each store raises its own kinds; it is asked again.
        except Exception:
            if self._rarely("store"):
                logger.exception("the session of a login could not be read")
            return None

    def _move(self, connection: str, session_id: str, identity: Identity) -> None:
        # No join may be between its check and its room.
        with self._sockets.order:
            # A later message may have said otherwise, or the connection may be gone.
            if self._logins.get(connection) != session_id:
                return
            self._forget(connection)
            if self._is_on(connection, session_id) or self._sockets.resolve(connection) is None:
                return
            if self._identities.move(connection, dataclasses.replace(identity, named=True)):
                leave_all(self._sockets, connection)
