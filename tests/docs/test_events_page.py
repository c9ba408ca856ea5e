"""docs/events.md is what the code generates, and each of its examples is published and heard as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from repo_notify.contract.examples import EXAMPLES
from repo_notify.demo.seed import STRUCTURE, TOWER
from repo_notify.events import EVENT_TYPES
from repo_notify.wiring import events_reference
from tests.conftest import host_defaults
from tests.docs.pages import DOCS, Block, blocks
from tests.support.chat import ChatClient
from tests.support.served import SECONDS, Served, User, host_app

pytest.importorskip("legacy_v4")

KEY = "a key of the tests'"
PAGE = (DOCS / "events.md").read_text("utf-8")
ROOMS = {
    "alice": (
        {"teamspace": "acme", "project": TOWER, "model": STRUCTURE},
        {"teamspace": "acme", "project": TOWER},
        {"account": "acme", "model": STRUCTURE},
        {"account": "acme"},
    ),
    "carol": ({"notifications": True}, {"account": "carol"}),
}
Heard = list[tuple[str, Any]]


class Audience:
    """Alice, who administers the teamspace, and carol, in every room that an example is meant for."""

    def __init__(self, served: Served, stack: ExitStack) -> None:
        self.served = served
        self.users = {name: User(served).log_in(name) for name in ROOMS}
        self.clients = {name: ChatClient(served.url, cookie=user.cookie) for name, user in self.users.items()}
        for name, client in self.clients.items():
            stack.callback(client.close)
            for room in ROOMS[name]:
                client.join(room)

    def publish(self, event: dict[str, Any]) -> Heard:
        """Publish over HTTP; return what everybody has heard of it."""
        answer = requests.post(
            self.served.url + "/notify/events", json=event, headers={"Authorization": f"Bearer {KEY}"}, timeout=SECONDS
        )
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
        return [(name, args[0]) for client in self.clients.values() for name, args in client.heard_so_far()]


@pytest.fixture(scope="module")
def audience(sample: str) -> Iterator[Audience]:
    keys = {"REPO_NOTIFY_API_KEY": KEY, "REPO_NOTIFY_LEGACY_V4_NAMES": "both"}
    with host_app({**host_defaults(sample), **keys}) as served, ExitStack() as stack:
        yield Audience(served, stack)


def section(event: str) -> str:
    (found,) = re.findall(rf"^## {event}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def example(event: str) -> tuple[dict[str, Any], Heard]:
    """What the page publishes, and what it says that clients hear."""
    published, *payloads = (json.loads(block.text) for block in examples(event))
    lists = re.split(r"^```json\n.*?^```$", section(event), flags=re.MULTILINE | re.DOTALL)[1:]
    names = [re.findall(r"^- `([^`]+)`|as `(\w+)`:$", text, re.MULTILINE) for text in lists]
    heard = [(first or last, payload) for found, payload in zip(names, payloads, strict=False) for first, last in found]
    return published, heard


def examples(event: str) -> list[Block]:
    return [block for block in blocks("events.md") if block.heading == event]


def test_the_page_is_up_to_date() -> None:
    """`repo-notify reference --events > docs/events.md` writes it anew."""
    assert events_reference() == PAGE


def test_every_event_has_an_example() -> None:
    assert list(EVENT_TYPES.values()) == [event for event in EVENT_TYPES.values() if event in EXAMPLES]
    assert re.findall(r"^## (\w+)$", PAGE, re.MULTILINE) == list(EVENT_TYPES)


@pytest.mark.parametrize("event", [name for name in EVENT_TYPES if name != "SessionsEnded"])
def test_an_example_is_heard_as_the_page_says(audience: Audience, event: str) -> None:
    published, expected = example(event)
    assert expected, "no client would hear of it"
    heard = audience.publish(published)
    assert sorted(map(json.dumps, heard)) == sorted(map(json.dumps, expected))


def test_the_end_of_a_session_is_heard_as_the_page_says(audience: Audience) -> None:
    published, expected = example("SessionsEnded")
    dave = User(audience.served).log_in("dave")
    ended = dave.http.get(audience.served.url + "/session", timeout=SECONDS).json()["session_id"]
    client = ChatClient(audience.served.url, cookie=dave.cookie)
    try:
        audience.publish({**published, "session_ids": [ended]})
        assert [(name, args[0]) for name, args in client.heard_so_far()] == expected
    finally:
        client.close()
