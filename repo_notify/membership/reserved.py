"""The clients' events that are ours: a handler of the host's for one of them is an error at the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import socketio

from repo_notify.errors import SettingsError

_Check = Callable[[Any, Any], None]


class _Checked(dict[Any, Any]):
    """A dict that checks what is put into it."""

    def __init__(self, found: Mapping[Any, Any], check: _Check) -> None:
        super().__init__(found)
        self._check = check

    def __setitem__(self, key: Any, value: Any) -> None:
        self._check(key, value)
        super().__setitem__(key, value)


class Reserved:
    """The events of ours on a server; `settings` names for each namespace the setting that chooses it.

    python-socketio keeps one handler for each event: the later one would replace the earlier one without a word.
    """

    def __init__(self, server: socketio.Server, events: Iterable[str], settings: Mapping[str, str]) -> None:
        self._server, self._events, self._settings = server, tuple(events), settings

    def check(self) -> None:
        """Raise `SettingsError` where the host has a handler for one of them."""
        for namespace in self._settings:
            for event in self._server.handlers.get(namespace, ()):
                self._refuse(namespace, event)
            self._check_class(namespace, self._server.namespace_handlers.get(namespace))

    def keep(self) -> None:
        """Have later handlers for one of them raise `SettingsError` where they are registered."""
        server = self._server
        for namespace in self._settings:
            found = server.handlers.get(namespace, {})
            server.handlers[namespace] = _Checked(found, partial(self._check_event, namespace))
        server.namespace_handlers = _Checked(server.namespace_handlers, self._check_class)

    def _check_event(self, namespace: str, event: str, _: object) -> None:
        self._refuse(namespace, event)

    def _check_class(self, namespace: str, handler: Any) -> None:
        for event in self._events:
            if namespace in self._settings and hasattr(handler, f"on_{event}"):
                self._refuse(namespace, event)

    def _refuse(self, namespace: str, event: str) -> None:
        if event in self._events:
            key = self._settings[namespace]
            raise SettingsError(
                [
                    f"{key} should be a namespace on which the app itself handles no `{event}`: both the app and "
                    f"repo_notify do on {namespace}. Choose one of its own for it, such as /notify, or register the "
                    "app's handler on another namespace"
                ]
            )
