"""What a server may be told, and what it refuses to be told."""

from __future__ import annotations

from typing import Any

import pytest

from repo_notify.engine import EngineIO4, Options, OutboxLimits, Server

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ping_interval": 0}, "ping_interval should be more than 0, not 0"),
    ({"max_message_bytes": -1}, "max_message_bytes should be more than 0, not -1"),
    ({"outbox": OutboxLimits(max_total=0)}, "max_total should be more than 0, not 0"),
    ({"transports": ("polling", "carrier")}, "transports should be some of polling, websocket, not polling, carrier"),
    ({"transports": ()}, "transports should be some of polling, websocket, not "),
    ({"codecs": (EngineIO4(),)}, "there are two codecs for EIO=4"),
]


@pytest.mark.parametrize(("options", "problem"), WRONG)
def test_refuses_what_cannot_be(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match="^" + problem + "$"):
        Options(**options)


def test_a_server_is_made_of_them() -> None:
    server = Server(Options(async_mode="threading", ping_interval=3, namespaces=("/a",)))
    assert server.options.ping_interval == 3
    assert server.knows("/a")
    assert not server.knows("/")
