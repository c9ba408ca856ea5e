"""Runs python-socketio clients for tests/clients/harness.py, in driver.js's language; 4.x and 5.x alike.

Of driver.js's operations it knows `connect`, `emit`, `disconnect` and `transport`. It imports the python-socketio that
it finds, and nothing of ours.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import engineio
import engineio.payload
import socketio

# The stock client takes 16 packets from one poll and gives up on more; JavaScript's takes any number.
engineio.payload.Payload.max_decode_packets = 10_000
WEBSOCKET = "websocket"
_write = threading.Lock()


def from_wire(pairs: dict[str, Any]) -> Any:
    """Binary travels as `{"__bytes__": base64}`."""
    return base64.b64decode(pairs["__bytes__"]) if set(pairs) == {"__bytes__"} else pairs


def binary_to_wire(value: object) -> dict[str, str]:
    assert isinstance(value, bytes)
    return {"__bytes__": base64.b64encode(value).decode("ascii")}


def report(**line: Any) -> None:
    with _write:
        print(json.dumps(line, default=binary_to_wire), flush=True)


class EngineInOrder(engineio.Client):
    """The stock client hands each message to a thread of its own, and they overtake one another; here they do not."""

    def connect(
        self, url: str, headers: Any = None, transports: Any = None, engineio_path: str = "engine.io"
    ) -> None:
        stock: Any = super()
        # It takes the cookie out of the headers when it upgrades, and would reconnect without.
        stock.connect(url, dict(headers or {}), transports, engineio_path)

    def _trigger_event(self, event: str, *args: Any, **options: Any) -> Any:
        stock: Any = super()
        return stock._trigger_event(event, *args, **{**options, "run_async": False})


class Client(socketio.Client):
    """Reports everything that happens in one namespace."""

    def __init__(self, name: str, namespace: str, **options: Any) -> None:
        stock: Any = super()
        stock.__init__(**options)
        self.name = name
        self.wanted = namespace

    def _engineio_client_class(self) -> type[engineio.Client]:
        return EngineInOrder

    def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any:
        if namespace != self.wanted or event.startswith("__"):
            return None
        if event == "connect":
            report(id=self.name, kind=event, socketId=self.own_id(), transport=self.transport_name())
        elif event == "disconnect":
            report(id=self.name, kind=event, reason=args[0] if args else "")
        elif event == "connect_error":
            said = args[0] if args else ""
            report(id=self.name, kind=event, message=said.get("message") if isinstance(said, dict) else said)
        else:
            report(id=self.name, kind="event", event=event, args=args)
        return None

    def own_id(self) -> str:
        """The id in the namespace; 4.x has but the Engine.IO id."""
        stock: Any = self
        return str(stock.get_sid(self.wanted) if hasattr(self, "get_sid") else self.eio.sid)

    def transport_name(self) -> str | None:
        return self.eio.current_transport if self.eio.state == "connected" else None


clients: dict[str, Any] = {}


def start(name: str, url: str, opts: dict[str, Any]) -> None:
    """Connect; the stock client upgrades before it says that it is connected."""
    parts = urlsplit(url)
    namespace = parts.path.rstrip("/") or "/"
    delay = opts.get("reconnectionDelay", 1000) / 1000
    client: Any = Client(
        name, namespace, reconnection=opts["reconnection"], reconnection_delay=delay,
        reconnection_delay_max=opts.get("reconnectionDelayMax", 5000) / 1000, randomization_factor=0,
    )
    clients[name] = client
    try:
        client.connect(
            f"{parts.scheme}://{parts.netloc}?{urlencode(opts.get('query', {}))}", headers=opts.get("extraHeaders", {}),
            transports=opts["transports"], namespaces=[namespace], socketio_path=opts["path"],
        )
    except socketio.exceptions.ConnectionError as error:
        report(id=name, kind="connect_error", message=str(error))
        return
    if opts["transports"][0] != WEBSOCKET and client.transport_name() == WEBSOCKET:
        report(id=name, kind="upgrade", transport=WEBSOCKET)


def connect(id: str, url: str, opts: dict[str, Any], **_: Any) -> None:  # noqa: A002 - the language's word
    # In a thread of its own: it returns when all is done.
    threading.Thread(target=start, args=(id, url, opts), daemon=True).start()


def emit(id: str, event: str, args: list[Any], ack: int | None = None) -> None:  # noqa: A002 - as above
    client = clients[id]
    answered = None if ack is None else lambda *reply: report(id=id, kind="ack", ack=ack, args=reply)
    client.emit(event, tuple(args), namespace=client.wanted, callback=answered)


def disconnect(id: str) -> None:  # noqa: A002 - as above
    clients[id].disconnect()


def transport(id: str, ack: int) -> None:  # noqa: A002 - as above
    report(id=id, kind="ack", ack=ack, args=[clients[id].transport_name()])


OPERATIONS: dict[str, Callable[..., None]] = {
    "connect": connect,
    "emit": emit,
    "disconnect": disconnect,
    "transport": transport,
}


def main() -> None:
    """Obey until stdin ends."""
    for line in sys.stdin:
        command = json.loads(line, object_hook=from_wire)
        try:
            OPERATIONS[command.pop("op")](**command)
        except Exception as error:  # noqa: BLE001 - reported
            report(id=command.get("id"), kind="refused", message=repr(error))
    # Threads of clients that reconnect would go on.
    for client in clients.values():
        client.reconnection = False
        client.disconnect()


if __name__ == "__main__":
    main()
