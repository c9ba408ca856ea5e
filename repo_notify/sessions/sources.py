"""Where the sessions of one app come from, by its settings."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Flask
from pymongo import MongoClient

from repo_notify.metrics import Metrics
from repo_notify.settings import Settings

from .bindings import Handshakes
from .express import ExpressSessions
from .host_users import HostUsers
from .reads import SessionReads


class Sources(NamedTuple):
    """The host's own users, and an Express app's sessions where the settings say so."""

    users: HostUsers
    express: ExpressSessions | None

    @property
    def handshakes(self) -> Handshakes:
        """What reads the sessions of handshakes."""
        return self.users if self.express is None else self.express


def sources_of(
    app: Flask, settings: Settings, client: MongoClient[dict[str, Any]], reads: SessionReads, metrics: Metrics
) -> Sources:
    """Return them; an Express app's sessions are read through `client`."""
    users = HostUsers(app, reads, metrics)
    if settings.express_secret is None:
        return Sources(users, None)
    express = ExpressSessions(
        client,
        reads,
        metrics,
        keys=settings.express_secret,
        where=settings.express_sessions,
        cookie_name=lambda: str(app.config["SESSION_COOKIE_NAME"]),
    )
    return Sources(users, express)
