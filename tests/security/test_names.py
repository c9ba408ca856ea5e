"""Whatever a client calls its events, they are that client's events: no name selects a handler by accident."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.conftest import ENGINES, host_defaults
from tests.engine.support import Served as EngineServed
from tests.security.clients import Chat
from tests.support.served import Served, host_app

NAMES = ["*", "connect", "disconnect", "connect_error", "__proto__", "constructor", "", "newListener", 7, 1.5]


@pytest.mark.parametrize("name", NAMES, ids=str)
@pytest.mark.parametrize("generation", [4, 3])
def test_an_event_of_any_name_is_its_senders(host: Served, name: object, generation: int) -> None:
    if generation == 3:
        pytest.importorskip("legacy_v4")
    with Chat(host.port) as other, Chat(host.port, generation) as client:
        (answer,) = client.ask(f"42{json.dumps([name, other.sid, {'x': 1}])}")
        event, reply = json.loads(answer[2:])
        assert (event, reply["code"]) == ("error", "UNKNOWN_EVENT")
        assert reply["details"] == {"action": name, "data": other.sid}
        assert other.ask() == []


def test_an_event_named_like_a_socket_is_its_senders(host: Served) -> None:
    with Chat(host.port) as other, Chat(host.port) as client:
        (answer,) = client.ask(f'42["{other.sid}","{other.sid}"]')
        assert json.loads(answer[2:])[1]["details"] == {"action": other.sid, "data": other.sid}
        assert other.ask() == []


@pytest.mark.parametrize("engine", ENGINES)
def test_nobody_elses_limits_are_used_up(sample: str, engine: str) -> None:
    config = {**host_defaults(sample), **ENGINES[engine]}
    with host_app(config) as served, Chat(served.port) as other, Chat(served.port) as client:
        for name in ("*", "connect", "disconnect", "join", "__proto__"):
            for _ in range(60):
                client.send(f'42["{name}","{other.sid}","{other.sid}"]')
        client.ask()
        # Neither told of anything nor refused for haste.
        (answer,) = other.ask('42["join",{"notifications":true}]')
        assert json.loads(answer[2:])[1]["code"] == "UNAUTHORISED"


def test_handlers_of_the_host_get_events_and_connections_apart(start: Callable[..., EngineServed]) -> None:
    served = start()
    with Chat(served.port) as client:
        assert client.receive() == b'42["auth",{}]'
        # The connect handler would emit `auth` again; the room's members would be told of an end.
        client.send('42["connect",{},{}]', '42["disconnect","transport close"]', '42["*",1]', '421["who-am-i"]')
        assert client.receive() == f'431["{client.sid}"]'.encode()
