"""What `GET /notify/explain` says of a 3D Repo backend's exchange."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.backend.conftest import ROOM, Site
from tests.support.until import until
from tests.test_operator import KEY, check, explained

pytestmark = pytest.mark.slow


def test_whether_it_is_consumed_since_when_and_how_many_messages_came(make_site: Callable[..., Site]) -> None:
    exchange = f"explained{uuid4().hex[:8]}"
    site = make_site(exchange, REPO_NOTIFY_API_KEY=KEY)
    client = site.joined("carol", ROOM)
    told = site.backend.model_event("containerNewTicket", ROOM, {"n": 1})
    assert client.hear() == ("containerNewTicket", (told,))
    site.backend.logged_out("nobody's", "nobody's either")
    until(lambda: "1 messages of sessions" in check(explained(site.served), "backend")[1])
    holds, why = check(explained(site.served), "backend")
    assert holds
    assert re.fullmatch(r"consumed for \d s; 1 events and 1 messages of sessions here", why), why
    with site.backend.connection.channel() as channel:
        channel.exchange_delete(exchange)
        channel.exchange_declare(exchange, type="topic", durable=True, auto_delete=False)
        until(lambda: not check(explained(site.served), "backend")[0])
        _, why = check(explained(site.served), "backend")
        assert why == (
            f"the backend's exchange {exchange} cannot be consumed (PreconditionFailed); "
            "1 events and 1 messages of sessions here"
        )
        channel.exchange_delete(exchange)
    assert explained(site.served)["hears"] is True


def test_without_a_backend_there_is_no_such_check(make_site: Callable[..., Site]) -> None:
    site = make_site("none", REPO_NOTIFY_API_KEY=KEY, REPO_NOTIFY_BACKEND_QUEUE=None)
    assert "backend" not in {item["check"] for item in explained(site.served)["checks"]}
