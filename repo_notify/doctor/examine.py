"""The whole examination, of the standalone service and of an app that has the extension."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask
from pymongo import MongoClient

from repo_notify.access.store import Store, connect
from repo_notify.bounded import in_a_thread, in_threads
from repo_notify.errors import SettingsError
from repo_notify.metrics import Metrics
from repo_notify.sessions.reads import SessionReads
from repo_notify.sessions.sources import sources_of
from repo_notify.settings import read
from repo_notify.state import State

from .checks import Subject, cookie_domain, look
from .cookies import as_header, whose
from .findings import Finding, ok, wrong
from .public import visit

NAME = "repo_notify"


def examine_standalone(
    configure: Callable[[], Flask],
    prepare: Callable[[Flask, MongoClient[dict[str, Any]]], None],
    *,
    cookie: str | None = None,
    url: str | None = None,
    origin: str | None = None,
) -> Iterator[Finding]:
    """Look at the service that `configure` configures; `prepare` has it read sessions. Both raise `SettingsError`."""
    try:
        app = configure()
        settings = read(app.config)
    except SettingsError as error:
        yield from map(wrong, error.problems)
        return
    yield ok("the settings are right")
    client = connect(settings.mongo_uri, timeout=settings.permission_timeout)
    store = Store(client, users_collection=settings.users_collection)
    try:
        prepare(app, client)
    except SettingsError as error:
        yield from map(wrong, error.problems)
        readable = False
    else:
        readable = True
    try:
        reads = SessionReads(in_threads(in_a_thread), seconds=settings.permission_timeout)
        express = sources_of(app, settings, client, reads, Metrics()).express
        subject = Subject(app, settings, store, reads_sessions=readable, express=express)
        yield from _examine(subject, cookie, url, origin)
    finally:
        store.close()


def examine_mounted(
    app: Flask, *, cookie: str | None = None, url: str | None = None, origin: str | None = None
) -> Iterator[Finding]:
    """Look at an app that has the extension."""
    state = app.extensions[NAME]
    assert isinstance(state, State)
    yield ok("the settings are right")
    subject = Subject(
        app, state.settings, state.store, state.users.loader, permissions=state.permissions, express=state.express
    )
    yield from _examine(subject, cookie, url, origin)


def _examine(subject: Subject, cookie: str | None, url: str | None, origin: str | None) -> Iterator[Finding]:
    yield from look(subject)
    if cookie is not None:
        yield whose(subject.app, subject.loader, cookie, subject.express)
    if url is not None:
        yield from cookie_domain(subject.app, url)
        header = as_header(subject.app, cookie) if cookie is not None else None
        yield from visit(subject.settings, url, origin, header)
