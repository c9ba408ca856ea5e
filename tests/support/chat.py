"""A v5 client in Python (python-socketio's), which awaits what it hears."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Mapping
from typing import Any

import engineio
import engineio.packet
import engineio.payload
import requests
import socketio

from tests.support.tls import client_context

SECONDS = 30.0
Heard = tuple[str, tuple[Any, ...]]

# The stock client takes 16 packets from one poll and gives up on more; JavaScript's takes any number.
engineio.payload.Payload.max_decode_packets = 10_000


def echoed(asked: Any) -> Any:
    """What was asked, as replies repeat it: binary values are null."""
    if isinstance(asked, dict):
        return {key: echoed(value) for key, value in asked.items()}
    if isinstance(asked, list):
        return [echoed(value) for value in asked]
    return None if isinstance(asked, bytes) else asked


class _EngineInOrder(engineio.Client):
    """The stock client hands each message to a thread of its own, and they overtake one another; here they do not."""

    def _trigger_event(self, event: str, *args: Any, run_async: bool = False, **options: Any) -> Any:
        stock: Any = super()
        return stock._trigger_event(event, *args, run_async=False, **options)


class _ClientInOrder(socketio.Client):
    def _engineio_client_class(self) -> type[engineio.Client]:
        return _EngineInOrder


def _client(authority: str | None, headers: Mapping[str, str]) -> socketio.Client:
    # Its thread must not look at the environment for proxies: pytest writes there all the time.
    http = requests.Session()
    http.trust_env = False
    # The stock client sends the headers that it is given with its handshake only.
    http.headers.update(headers)
    options: dict[str, Any] = {}
    if authority is not None:
        http.verify = authority
        options["websocket_extra_options"] = {"sslopt": {"context": client_context(authority)}}
    in_order: Any = _ClientInOrder
    client: socketio.Client = in_order(reconnection=False, http_session=http, **options)
    return client


class ChatClient:
    """One connection; `hear` gives what arrived, in order. `authority`: the file of who signed the server's TLS."""

    def __init__(
        self,
        url: str,
        *,
        cookie: str = "",
        headers: Mapping[str, str] | None = None,
        namespace: str = "/",
        transports: tuple[str, ...] = ("websocket",),
        path: str = "chat",
        authority: str | None = None,
    ) -> None:
        self.namespace = namespace
        self._heard: queue.Queue[Heard] = queue.Queue()
        self._barriers = itertools.count()
        self.socket = _client(authority, headers or {})
        # How far the history goes that this client has had; told behind whatever it hears.
        self.position: str | None = None
        self.socket.on("*", self._hears, namespace=namespace)
        self.socket.connect(
            url,
            headers={**({"Cookie": cookie} if cookie else {}), **(headers or {})},
            namespaces=[namespace],
            transports=list(transports),
            socketio_path=path,
            wait_timeout=SECONDS,
        )

    def _hears(self, event: str, *args: Any) -> None:
        if event == "position":
            (self.position,) = args
        else:
            self._heard.put((event, args))

    @property
    def id(self) -> str:
        sid = self.socket.get_sid(self.namespace)
        assert isinstance(sid, str)
        return sid

    @property
    def engine_id(self) -> str:
        """The Engine.IO id, which socket.io-client 1.x and 2.x show as `socket.id`."""
        sid = self.socket.eio.sid
        assert isinstance(sid, str)
        return sid

    def hear(self, seconds: float = SECONDS) -> Heard:
        """Return the next event, whichever it is; fails when there is none within `seconds`."""
        return self._heard.get(timeout=seconds)

    def hear_event(self, name: str, seconds: float = SECONDS) -> Any:
        """Return the first argument of the next event, which must be of that name."""
        event, args = self.hear(seconds)
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
        """Return everything that arrived before the answer to a question asked now: a barrier, not a sleep.

        The question is to leave a room that cannot be: answered in order, on every server, to everybody.
        """
        asked = {"barrier": next(self._barriers)}
        refusal = self.socket.call("leave", asked, namespace=self.namespace, timeout=SECONDS)
        found: list[Heard] = []
        while True:
            event, args = self._heard.get(timeout=SECONDS)
            if event == "error" and args[0].get("details") == {"action": "leave", "data": asked}:
                break
            found.append((event, args))
        told = ("credentialError", ({key: refusal[key] for key in ("code", "message")},))
        # v4's own namespace answers in both ways.
        return found[:-1] if self.namespace != "/" and found[-1:] == [told] else found

    def close(self) -> None:
        engine = self.socket.eio
        if engine.state == "connected" and engine.current_transport == "polling":
            # Told to disconnect while it posts, the stock client forgets to say so, and waits for the poll's end.
            engine._send_packet(engineio.packet.Packet(engineio.packet.CLOSE))
            engine.wait()
        else:
            self.socket.disconnect()
        # Where the server has closed the WebSocket, the stock client leaves the TCP connection open.
        websocket: Any = self.socket.eio.ws
        if websocket is not None:
            websocket.shutdown()
