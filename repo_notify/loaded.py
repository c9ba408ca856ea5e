"""The apps of a server's process, for the server that loads them behind whatever middleware they stand."""

from __future__ import annotations

from contextvars import ContextVar

# Set by a server before it loads an application; `wiring.wire` appends the State of each app. This module imports
# nothing, as servers import it before gevent has patched.
LOADED: ContextVar[list[object] | None] = ContextVar("repo_notify_loaded", default=None)
