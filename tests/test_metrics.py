"""What an operator reads at `/notify/metrics`, and that it comes back to rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import host_defaults
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.until import until

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
LABELS = {
    "repo_notify_joins": {"action", "outcome"},
    "repo_notify_events_published": {"type"},
    "repo_notify_deliveries": set(),
    "repo_notify_publish_seconds": {"le"},
    "repo_notify_bindings": {"outcome"},
    "repo_notify_evictions": {"cause"},
    "repo_notify_revalidations": {"cause", "outcome"},
    "repo_notify_revocation_seconds": {"le"},
    "repo_notify_sessions_ended": {"cause"},
    "repo_notify_change_stream_up": set(),
    "repo_notify_change_stream_changes": set(),
    "repo_notify_change_stream_restarts": set(),
    "repo_notify_change_stream_losses": set(),
    "repo_notify_slow_clients": {"limit"},
    "repo_notify_outbox_bytes": set(),
    "repo_notify_recheck_age_seconds": set(),
    "repo_notify_permission_errors": set(),
    "repo_notify_session_errors": set(),
    "repo_notify_queue_errors": set(),
    "repo_notify_queue_dropped": {"reason"},
    "repo_notify_queue_holes": set(),
    "repo_notify_queue_repeats": set(),
    "repo_notify_queue_ignored": set(),
    "repo_notify_connections": {"generation", "transport"},
    "repo_notify_rooms": set(),
}  # fmt: skip
# Where a message queue is set.
OF_QUEUES = ("repo_notify_queue_up", "repo_notify_queue_depth", "repo_notify_queue_depth_bytes")


@pytest.fixture(scope="module")
def served(sample: str) -> Iterator[Served]:
    with host_app(host_defaults(sample)) as found:
        yield found


def test_connections_and_rooms_come_and_go(served: Served, chat: Callable[..., ChatClient]) -> None:
    cookie = User(served).log_in("carol").cookie
    clients = [chat(served.url, cookie=cookie, transports=(name,)) for name in ("websocket", "polling")]
    for client in clients:
        client.join(ROOM)
    clients[0].join({"notifications": True})
    assert metric(served, "repo_notify_connections", transport="websocket") == 1
    assert metric(served, "repo_notify_connections", transport="polling") == 1
    assert metric(served, "repo_notify_rooms") == 2
    for client in clients:
        client.close()
    until(lambda: metric(served, "repo_notify_connections") == 0)
    until(lambda: metric(served, "repo_notify_rooms") == 0)


@pytest.mark.parametrize(
    ("user", "action", "data", "labels"),
    [
        ("carol", "join", ROOM, {"action": "join", "outcome": "success"}),
        ("carol", "leave", ROOM, {"action": "leave", "outcome": "success"}),
        ("mallory", "join", ROOM, {"action": "join", "outcome": "room_not_found"}),
        (None, "join", ROOM, {"action": "join", "outcome": "unauthorised"}),
        ("carol", "shout", "x" * 50, {"action": "other", "outcome": "unknown_event"}),
    ],
)
def test_joins_by_outcome(
    served: Served,
    chat: Callable[..., ChatClient],
    user: str | None,
    action: str,
    data: object,
    labels: dict[str, str],
) -> None:
    before = metric(served, "repo_notify_joins_total", **labels)
    client = chat(served.url, cookie=User(served).log_in(user).cookie if user else "")
    client.ask(action, data)
    assert metric(served, "repo_notify_joins_total", **labels) == before + 1


def test_events_deliveries_and_their_latency(served: Served, chat: Callable[..., ChatClient]) -> None:
    names = ("repo_notify_deliveries_total", "repo_notify_publish_seconds_count", "repo_notify_publish_seconds_sum")
    before = [metric(served, name) for name in names]
    user = User(served).log_in("carol")
    clients = [chat(served.url, cookie=user.cookie) for _ in range(3)]
    for client in clients:
        client.join(ROOM)
    for _ in range(2):
        user.publish("TicketCreated", **ROOM, kind="container", data={})
    after = [metric(served, name) for name in names]
    assert after[:2] == [before[0] + 6, before[1] + 2]
    assert before[2] < after[2] < before[2] + SECONDS
    assert metric(served, "repo_notify_events_published_total", type="TicketCreated") == 2


def test_bindings_by_outcome(served: Served, chat: Callable[..., ChatClient]) -> None:
    client = chat(served.url)
    User(served).log_in("carol", socket_id=client.id)
    User(served).log_in("dave", socket_id=client.id)
    User(served).log_in("dave", socket_id="nobody's")
    for outcome in ("bound", "refused", "unknown"):
        assert metric(served, "repo_notify_bindings_total", outcome=outcome) >= 1


def test_names_labels_and_nothing_of_users(served: Served, chat: Callable[..., ChatClient]) -> None:
    user = User(served).log_in("carol")
    client = chat(served.url, cookie=user.cookie)
    client.join(ROOM)
    client.ask("carol's own event", 1)
    user.publish("NotificationUpserted", username="carol", data={"text": "hello"})
    answer = requests.get(served.url + "/notify/metrics", timeout=SECONDS)
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    # The library tells of each counter when it began, too.
    assert {family.name.removesuffix("_created") for family in families} == set(LABELS)
    for family in families:
        found = {label for sample in family.samples for label in sample.labels}
        assert found <= LABELS[family.name.removesuffix("_created")], family.name
        assert family.documentation
    assert not re.search(f"carol|dave|mallory|acme|hello|{TOWER}|{STRUCTURE}", answer.text)


def test_the_documentation_names_every_metric() -> None:
    root = Path(__file__).parent.parent
    pages = "\n".join(page.read_text("utf-8") for page in [root / "README.md", *(root / "docs").rglob("*.md")])
    assert [name for name in (*LABELS, *OF_QUEUES) if name not in pages] == []
