"""A v5 client in Python (python-socketio's), which awaits what it hears."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from typing import Any

import socketio

SECONDS = 5.0
Heard = tuple[str, tuple[Any, ...]]


class ChatClient:
    """One connection; `hear` gives what arrived, in order."""

    def __init__(
        self,
        url: str,
        *,
        cookie: str = "",
        headers: Mapping[str, str] | None = None,
        namespace: str = "/",
        transports: tuple[str, ...] = ("websocket",),
        path: str = "chat",
    ) -> None:
        self.namespace = namespace
        self._heard: queue.Queue[Heard] = queue.Queue()
        self.socket = socketio.Client(reconnection=False)
        self.socket.on("*", lambda event, *args: self._heard.put((event, args)), namespace=namespace)
        self.socket.connect(
            url,
            headers={**({"Cookie": cookie} if cookie else {}), **(headers or {})},
            namespaces=[namespace],
            transports=list(transports),
            socketio_path=path,
            wait_timeout=SECONDS,
        )

    @property
    def id(self) -> str:
        sid = self.socket.get_sid(self.namespace)
        assert isinstance(sid, str)
        return sid

    def hear(self) -> Heard:
        """Return the next event, whichever it is; fails when there is none."""
        return self._heard.get(timeout=SECONDS)

    def hear_event(self, name: str) -> Any:
        """Return the first argument of the next event, which must be of that name."""
        event, args = self.hear()
        assert event == name, f"heard {event} {args} instead of {name}"
        return args[0] if args else None

    def ask(self, action: str, data: Any) -> Any:
        """Emit and return the acknowledgement."""
        return self.socket.call(action, data, namespace=self.namespace, timeout=SECONDS)

    def join(self, data: Any) -> Any:
        """Join, fail unless it succeeds, and forget the replies."""
        reply = self.ask("join", data)
        assert reply.get("event") == "success", reply
        return self.heard_so_far()

    def heard_so_far(self) -> list[Heard]:
        """Return everything that arrived before the answer to a question asked now: a barrier, not a sleep."""
        self.socket.call("barrier", namespace=self.namespace, timeout=SECONDS)
        found: list[Heard] = []
        while True:
            event, args = self._heard.get(timeout=SECONDS)
            if event == "error" and args[0].get("details", {}).get("action") == "barrier":
                return found
            found.append((event, args))

    def close(self) -> None:
        self.socket.disconnect()
