"""A served app in a process of its own, which ends and begins again on the same port."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, host_app


@dataclass
class Restarting:
    """The host app with this configuration; `lives` says how often it began."""

    config: dict[str, Any]
    lives: int = 0
    _running: ExitStack = field(default_factory=ExitStack)
    _served: Served | None = None

    def __post_init__(self) -> None:
        self.config = {"PORT": free_port(), **self.config}

    @property
    def served(self) -> Served:
        assert self._served is not None
        return self._served

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config['PORT']}"

    def start(self) -> Served:
        self._served = self._running.enter_context(host_app(self.config))
        self.lives += 1
        return self._served

    def end(self, number: int) -> None:
        self.served.process.send_signal(number)
        self.served.process.wait(SECONDS)
        self._running.close()

    def restart(self, number: int) -> Served:
        self.end(number)
        return self.start()

    def close(self) -> None:
        self._running.close()
