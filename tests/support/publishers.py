"""A publisher's connection, packet by packet: what it sends is sent as it is, and what it hears is all returned."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from websocket import ABNF, create_connection

from tests.support.served import SECONDS

NAMESPACE = "/notify/events"
# No `auth` at all.
NOTHING: Any = ...


class Refused(AssertionError):
    """The namespace was refused; `data` is what the server said."""

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.data = data


class Ended(AssertionError):
    """The server has closed the connection; `code` is the WebSocket's."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Publisher:
    """A WebSocket in the publishers' namespace; a context manager. Raises `Refused`."""

    def __init__(
        self, url: str, auth: Any = NOTHING, *, headers: Mapping[str, str] | None = None, namespace: str = NAMESPACE
    ) -> None:
        self._prefix = "" if namespace == "/" else f"{namespace},"
        self._numbers = itertools.count()
        self._socket = create_connection(
            f"ws://{urlsplit(url).netloc}/chat/?EIO=4&transport=websocket",
            timeout=SECONDS, header=dict(headers or {}), suppress_origin=True,
        )  # fmt: skip
        self.receive()
        self.send_text(f"40{self._prefix}" + ("" if auth is NOTHING else json.dumps(auth)))
        answer = self.receive()
        data = json.loads(answer[2:].removeprefix(self._prefix))
        if not answer.startswith("40"):
            self._socket.close()
            raise Refused(data)
        self.answer = data

    def publish(self, *arguments: Any) -> Any:
        """Send `publish` and return its acknowledgement, the next packet that is heard."""
        return self.ask("publish", *arguments)

    def ask(self, event: Any, *arguments: Any) -> Any:
        number = self.send(event, *arguments)
        return self.acknowledged(number)

    def send(self, event: Any, *arguments: Any) -> int:
        """Send an event that asks for an acknowledgement; return its number."""
        number = next(self._numbers)
        self.send_text(f"42{self._prefix}{number}{json.dumps([event, *arguments])}")
        return number

    def tell(self, *arguments: Any) -> None:
        """Send `publish` without asking for an acknowledgement."""
        self.send_text(f"42{self._prefix}{json.dumps(['publish', *arguments])}")

    def acknowledged(self, number: int) -> Any:
        heard = self.receive()
        start = f"43{self._prefix}{number}"
        assert heard.startswith(start), heard
        (found,) = json.loads(heard.removeprefix(start))
        return found

    def send_text(self, text: str) -> None:
        self._socket.send(text)

    def send_binary(self, data: bytes) -> None:
        self._socket.send_binary(data)

    def receive(self) -> str:
        """Return the next text message that is no ping, which is answered; raises `Ended`."""
        code, data = self._socket.recv_data()
        if code == ABNF.OPCODE_CLOSE:
            raise Ended(struct.unpack("!H", data[:2])[0] if data else None)
        if data == b"2":
            self.send_text("3")
            return self.receive()
        return str(data.decode())

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
