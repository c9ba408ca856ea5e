"""Thousands of ids a second that nobody has, which is what anonymous page loads cost (spec section 11)."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import amqp
import pytest

from tests.backend.conftest import ROOM, Site
from tests.support.backend import Backend, new_session_id
from tests.support.metrics import metric
from tests.support.served import Served
from tests.support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

MESSAGES, A_SECOND = 15_000, 3_000
# How many go out in one go between two pauses.
AT_ONCE = 50
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(served: Served) -> float:
    """Return how much of a core the service's process has used until now."""
    fields = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_SECONDS


def anonymous_page_load(number: int) -> Any:
    """One of the three messages that a page load without a login causes."""
    sid = new_session_id()
    messages: list[Any] = [
        {"internal": True, "event": "loggedIn", "data": {"sessionID": sid, "socketId": new_session_id()}},
        {"internal": True, "event": "loggedOut", "data": {"sessionIds": [sid]}},
        {"event": "loggedOut", "data": {"reason": "r"}, "recipients": [f"sessions::{sid}"]},
    ]
    return messages[number % 3]


def flood(backend: Backend) -> float:
    """Publish all of them at their pace, on one channel; return how many seconds that took."""
    bodies = [json.dumps(anonymous_page_load(number)).encode() for number in range(MESSAGES)]
    began, pause = monotonic(), threading.Event()
    with backend.connection.channel() as channel:
        for at in range(0, MESSAGES, AT_ONCE):
            for body in bodies[at : at + AT_ONCE]:
                channel.basic_publish(amqp.Message(body), backend.exchange, "")
            pause.wait(max(0.0, began + at / A_SECOND - monotonic()))
    return monotonic() - began


def test_ids_that_nobody_has_cost_next_to_nothing(
    make_site: Callable[..., Site], record_property: Callable[[str, object], None], capfd: pytest.CaptureFixture[str]
) -> None:
    site = make_site("unknown")
    client = site.joined("carol", ROOM)
    name = "repo_notify_backend_messages_total"
    before, used = metric(site.served, name), cpu_seconds(site.served)
    seconds = flood(site.backend)
    until(lambda: metric(site.served, name) >= before + MESSAGES)
    share = (cpu_seconds(site.served) - used) / seconds
    record_property("cores", round(share, 3))
    with capfd.disabled():
        print(f"{MESSAGES / seconds:,.0f} messages a second took {share:.1%} of a core")

    assert metric(site.served, name) == before + MESSAGES
    assert metric(site.served, "repo_notify_backend_passed_over_total") == 0
    told = site.backend.model_event("containerNewTicket", ROOM, {})
    assert client.hear() == ("containerNewTicket", (told,))
    lines = [line for line in capfd.readouterr().err.splitlines() if "repo_notify" in line]
    assert lines == [], "no line for each of them, nor any"
