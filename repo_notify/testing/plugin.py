"""Fixtures for the tests of apps that publish: `pytest_plugins = ["repo_notify.testing.plugin"]` in conftest.py.

Nothing of the service is imported before a fixture is used, and gevent patches nothing in the tests' process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from repo_notify.delivery.recording import RecordedEvents

    from .served import Server, ThreadServer


@pytest.fixture
def notify_app(request: pytest.FixtureRequest) -> Flask:
    """The app under test: by default what the fixture `app` returns. Override it where yours has another name."""
    try:
        app: Flask = request.getfixturevalue("app")
    except pytest.FixtureLookupError:
        pytest.fail(
            "repo_notify's fixtures need the app under test: define a fixture `app` that returns it, or `notify_app` "
            "that returns what your own fixture is called",
            pytrace=False,
        )
    return app


@pytest.fixture
def notify_events(notify_app: Flask) -> Iterator[RecordedEvents]:
    """What the app publishes during the test, checked; it is delivered to nobody."""
    state = notify_app.extensions.get("repo_notify")
    if state is None:
        pytest.fail("the app has no extension repo_notify: call notify.init_app(app) in its factory", pytrace=False)
    with state.publisher.recorded(deliver=False) as events:
        yield events


@pytest.fixture
def notify_server(notify_app: Flask) -> Iterator[ThreadServer]:
    """The app, served on a free loopback port by threads of the tests' process; `.client()` connects to it."""
    from .served import in_thread

    with in_thread(notify_app) as server:
        yield server


@pytest.fixture
def notify_process() -> Iterator[Callable[..., Server]]:
    """Serve `"package.module:app_or_factory"` on gevent, in a process of its own, until the test's end."""
    from .served import in_process

    with ExitStack() as stack:

        def start(target: str, **options: Any) -> Server:
            return stack.enter_context(in_process(target, **options))

        yield start


@pytest.fixture(scope="session")
def notify_mongo_uri() -> Iterator[str]:
    """The address of an embedded MongoDB for the length of the run; it comes with the extra `demo`."""
    from .embedded import MEMORY, EmbeddedMongo

    with EmbeddedMongo(MEMORY) as mongo:
        yield mongo.uri
