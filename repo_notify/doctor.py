"""`repo-notify doctor`: what a service with this environment would find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from .access.store import Store, Unreachable, connect
from .client import QueuePublisher
from .errors import QueueUnavailable, SettingsError
from .settings import Settings, from_environment, read
from .wiring import load_legacy


class Finding(NamedTuple):
    """One thing that was looked at: whether it is as it should be, and a sentence."""

    good: bool
    text: str


def examine() -> Iterator[Finding]:
    """Look at the settings, and where they are right at what they point to."""
    try:
        settings = read(from_environment(os.environ))
    except SettingsError as error:
        yield from (Finding(False, problem) for problem in error.problems)
        return
    yield Finding(True, "the settings are right")
    yield _mongo(settings)
    if settings.message_queue is None:
        yield Finding(True, "no message queue is set: one process serves")
    else:
        yield _queue(settings.message_queue, settings.message_queue_channel)
    if settings.legacy_v4:
        yield _legacy()


def _mongo(settings: Settings) -> Finding:
    store = Store(
        connect(settings.mongo_uri, timeout=settings.permission_timeout), users_collection=settings.users_collection
    )
    try:
        with store.within(settings.permission_timeout):
            store.ping()
    except Unreachable as error:
        return Finding(False, f"MongoDB does not answer: {error}")
    finally:
        store.close()
    return Finding(True, "MongoDB answers")


def _queue(url: str, channel: str) -> Finding:
    try:
        QueuePublisher(url, channel=channel).publish()
    except QueueUnavailable as error:
        return Finding(False, str(error))
    return Finding(True, "the message queue answers")


def _legacy() -> Finding:
    if load_legacy() is None:
        return Finding(False, "REPO_NOTIFY_LEGACY_V4 should be false, as the package legacy_v4 is not installed")
    return Finding(True, "v4 frontends are served too")
