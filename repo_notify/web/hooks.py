"""The functions that Flask calls around each request of an app: ours, and whether there are others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask

BLUEPRINT = "repo_notify"
EVENTS = f"{BLUEPRINT}.events"
_SCOPES = (None, BLUEPRINT)

Hook = TypeVar("Hook", bound=Callable[..., Any])


class Hooks:
    """Registers the extension's functions around the requests of one app, and knows them again."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._own: list[Callable[..., Any]] = []
        self._registries: tuple[Any, ...] = (
            app.url_value_preprocessors,
            app.before_request_funcs,
            app.after_request_funcs,
            app.teardown_request_funcs,
        )

    def first(self, function: Callable[[], None]) -> None:
        """Have it called before each request, earlier than all that is registered by now."""
        self._app.before_request_funcs.setdefault(None, []).insert(0, self.own(function))

    def after(self, function: Callable[[Any], Any]) -> None:
        """Have it called with each answer of the app."""
        self._app.after_request(self.own(function))

    def own(self, function: Hook) -> Hook:
        """Take note that a function which is registered elsewhere is ours: a decorator."""
        self._own.append(function)
        return function

    def are_alone(self) -> bool:
        """Return whether no function but ours is called around the routes of ours."""
        own = self._own
        for registry in self._registries:
            for scope in _SCOPES:
                for function in registry.get(scope, ()):
                    if function not in own:
                        return False
        return not self._app.teardown_appcontext_funcs
