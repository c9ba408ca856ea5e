"""What an operator reads at `/notify/metrics`, and that it comes back to rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import time

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from websocket import create_connection

from repo_notify import RepoNotify, __version__
from repo_notify.contract.markdown import metrics_markdown
from repo_notify.demo.seed import STRUCTURE, TOWER
from repo_notify.metrics import HANDSHAKES, METRICS, SESSIONS
from tests.conftest import UNWATCHED, host_defaults
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.service import command, service, service_environment
from tests.support.threaded import serving
from tests.support.until import until
from tests.test_extension import make_app

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
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


def test_handshakes_by_outcome(served: Served, chat: Callable[..., ChatClient]) -> None:
    def count(outcome: str) -> float:
        return metric(served, "repo_notify_handshakes_total", outcome=outcome)

    def shake(query: str, **headers: str) -> int:
        return requests.get(f"{served.url}/chat/?{query}", headers=headers, timeout=SECONDS).status_code

    before = {outcome: count(outcome) for outcome in HANDSHAKES}
    chat(served.url)
    assert shake("EIO=4&transport=polling", Origin="https://elsewhere.example") == 400
    assert shake("EIO=2&transport=polling") == 400
    assert shake("EIO=4&transport=websocket") == 400
    assert shake("EIO=4&transport=pigeons") == 400
    # What is no handshake: a poll of nobody, and one of another page.
    strays = metric(served, "repo_notify_unknown_connections_total")
    assert shake("EIO=4&transport=polling&sid=nobodys") == 400
    assert metric(served, "repo_notify_unknown_connections_total") == strays + 1
    once = {"accepted", "origin", "protocol", "no_upgrade", "bad_request"}
    assert {outcome for outcome in HANDSHAKES if count(outcome) == before[outcome] + 1} == once


def test_handshakes_while_the_service_ends(serve_host: Callable[..., Served]) -> None:
    served = serve_host()
    assert requests.post(served.url + "/end", timeout=SECONDS).ok
    answer = requests.get(served.url + "/chat/?EIO=4&transport=polling", timeout=SECONDS)
    assert answer.status_code == 503
    assert metric(served, "repo_notify_handshakes_total", outcome="shutting_down") == 1


def test_sessions_by_outcome(serve_host: Callable[..., Served], chat: Callable[..., ChatClient]) -> None:
    served, other = serve_host(), serve_host(SECRET_KEY="another")
    brief = serve_host(PERMANENT_SESSION_LIFETIME=0)
    carol, logged_in = User(served).log_in("carol").cookie, int(time())

    def outcomes(at: Served) -> dict[str, float]:
        found = {outcome: metric(at, "repo_notify_sessions_total", outcome=outcome) for outcome in SESSIONS}
        return {outcome: number for outcome, number in found.items() if number}

    chat(served.url, cookie=carol)
    chat(served.url)
    chat(served.url, cookie="session=" + carol.removeprefix("session=")[::-1])
    assert outcomes(served) == {"user": 1, "none": 1, "bad_signature": 1}
    chat(other.url, cookie=carol)
    assert outcomes(other) == {"bad_signature": 1}
    # A signature's age counts in whole seconds.
    until(lambda: int(time()) > logged_in + 1)
    chat(brief.url, cookie=carol)
    assert outcomes(brief) == {"expired": 1}


def test_sessions_of_a_store(serve_host: Callable[..., Served], chat: Callable[..., ChatClient]) -> None:
    served = serve_host(SESSIONS="mongodb")
    chat(served.url, cookie=User(served).log_in("carol").cookie)
    chat(served.url, cookie="session=one-that-the-store-does-not-have")
    for outcome in ("user", "expired"):
        assert metric(served, "repo_notify_sessions_total", outcome=outcome) == 1


def test_disconnects_by_reason(serve_host: Callable[..., Served], chat: Callable[..., ChatClient]) -> None:
    served = serve_host(REPO_NOTIFY_PING_INTERVAL=0.5, REPO_NOTIFY_PING_TIMEOUT=0.5)

    def count(reason: str) -> float:
        return metric(served, "repo_notify_disconnects_total", reason=reason)

    url = f"ws://127.0.0.1:{served.port}/chat/?EIO=4&transport=websocket"
    silent = create_connection(url, timeout=SECONDS)
    until(lambda: count("ping_timeout") == 1)
    silent.close()
    gone = create_connection(url, timeout=SECONDS)
    gone.close()
    until(lambda: count("transport_close") == 1)
    rude = create_connection(url, timeout=SECONDS)
    rude.send("9")
    until(lambda: count("transport_error") == 1)
    rude.close()
    polite = create_connection(url, timeout=SECONDS)
    polite.send("1")
    until(lambda: count("client_disconnect") == 1)
    polite.close()
    assert metric(served, "repo_notify_disconnects_total") == 4


@pytest.mark.parametrize("hook", [False, True], ids=["direct", "through Flask"])
def test_publish_requests_by_status(serve_host: Callable[..., Served], hook: bool) -> None:
    served = serve_host(REPO_NOTIFY_API_KEY="key", REPO_NOTIFY_MAX_EVENT_BYTES=200, HOOK=hook)

    def publish(body: str, key: str = "key") -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return requests.post(f"{served.url}/notify/events", data=body, headers=headers, timeout=SECONDS).status_code

    statuses = [
        publish('{"type": "NotificationDeleted", "username": "carol", "data": {"_id": "1"}}'),
        publish("{}"),
        publish("{}", key="wrong"),
        publish(" " * 201),
    ]
    assert statuses == [202, 400, 401, 413]
    for status in statuses:
        assert metric(served, "repo_notify_publish_requests_total", status=str(status)) == 1


def test_reads_of_permissions(serve_host: Callable[..., Served], chat: Callable[..., ChatClient]) -> None:
    # The three may take a while.
    served = serve_host(REPO_NOTIFY_PERMISSION_CACHE_SECONDS=60, **UNWATCHED)
    cookie = User(served).log_in("carol").cookie
    for client in [chat(served.url, cookie=cookie) for _ in range(3)]:
        client.join(ROOM)
    reads = metric(served, "repo_notify_permission_seconds_count")
    assert reads >= 1
    assert metric(served, "repo_notify_permission_seconds_sum") < SECONDS
    assert metric(served, "repo_notify_permission_cache_total", outcome="miss") == reads
    assert metric(served, "repo_notify_permission_cache_total", outcome="hit") >= 2
    assert metric(served, "repo_notify_permission_errors_total") == 0


def test_reads_of_permissions_that_fail(serve_host: Callable[..., Served], chat: Callable[..., ChatClient]) -> None:
    nowhere = {"REPO_NOTIFY_MONGO_URI": "mongodb://127.0.0.1:1", "REPO_NOTIFY_PERMISSION_TIMEOUT": 0.5}
    served = serve_host(**nowhere)
    client = chat(served.url, cookie=User(served).log_in("carol").cookie)
    assert client.ask("join", ROOM)["code"] == "SERVICE_UNAVAILABLE"
    assert metric(served, "repo_notify_permission_errors_total") == 1
    assert metric(served, "repo_notify_joins_total", action="join", outcome="service_unavailable") == 1


def test_what_waits_and_who_is_cut_off(serve_host: Callable[..., Served]) -> None:
    served = serve_host(REPO_NOTIFY_MAX_OUTBOX_BYTES=2_000_000, REPO_NOTIFY_MAX_OUTBOX_SECONDS=3)
    user = User(served).log_in("carol")
    url = f"ws://127.0.0.1:{served.port}/chat/?EIO=4&transport=websocket"
    stalled = create_connection(url, timeout=SECONDS, cookie=user.cookie)
    stalled.recv()
    stalled.send("40")
    stalled.recv()
    stalled.send('42["join",{"notifications":true}]')
    stalled.recv()
    waited = 0.0

    def cut_off() -> bool:
        nonlocal waited
        user.publish("NotificationUpserted", username="carol", data={"text": "x" * 200_000})
        waited = max(waited, metric(served, "repo_notify_outbox_bytes"))
        return metric(served, "repo_notify_slow_clients_total") > 0

    until(cut_off, seconds=2 * SECONDS)
    assert waited > 0
    until(lambda: metric(served, "repo_notify_outbox_bytes") == 0)
    assert metric(served, "repo_notify_disconnects_total", reason="slow_client") == 1
    stalled.close(timeout=0)


def test_a_busy_loop_is_late(serve_host: Callable[..., Served]) -> None:
    served = serve_host()
    metric(served, "repo_notify_loop_lag_seconds")
    until(lambda: busy(served) and metric(served, "repo_notify_loop_lag_seconds") > 0.2)


def busy(served: Served) -> bool:
    return requests.get(served.url + "/busy?seconds=0.7", timeout=SECONDS).ok


def test_what_runs(served: Served) -> None:
    assert metric(served, "repo_notify_build_info", version=__version__, async_mode="gevent") == 1
    pid = str(served.process.pid)
    assert metric(served, "repo_notify_worker_info", pid=pid, shared="false") == 1


def test_series_are_there_before_anything_happens(serve_host: Callable[..., Served]) -> None:
    text = requests.get(serve_host().url + "/notify/metrics", timeout=SECONDS).text
    for row in METRICS:
        for labels in () if row.read else row.start if row.labels else [()]:
            shown = ",".join(f'{name}="{value}"' for name, value in zip(row.labels, labels, strict=True))
            name = row.full_name + ("_count" if row.kind == "histogram" else "") + (f"{{{shown}}}" if shown else "")
            assert f"\n{name} 0.0\n" in text, name
    assert '\nrepo_notify_events_published_total{type="IssuesCreated"} 0.0\n' in text
    assert '\nrepo_notify_slow_clients_total{limit="bytes"} 0.0\n' in text
    assert '\nrepo_notify_connections{generation="4",transport="websocket"} 0.0\n' in text


def test_names_labels_and_nothing_of_users(served: Served, chat: Callable[..., ChatClient]) -> None:
    user = User(served).log_in("carol")
    client = chat(served.url, cookie=user.cookie)
    client.join(ROOM)
    client.ask("carol's own event", 1)
    user.publish("NotificationUpserted", username="carol", data={"text": "hello"})
    answer = requests.get(served.url + "/notify/metrics", timeout=SECONDS)
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    absent = ("a message queue", "a history in a store", "a backend's exchange")
    rows = {row.full_name.removesuffix("_total"): row for row in METRICS if row.when not in absent}
    # The library tells of each counter when it began, too.
    assert {family.name.removesuffix("_created") for family in families} == set(rows)
    for family in families:
        row = rows[family.name.removesuffix("_created")]
        found = {label for sample in family.samples for label in sample.labels}
        assert found <= {*row.labels, *(["le"] if row.kind == "histogram" else [])}, family.name
        assert family.documentation
    assert not re.search(f"carol|dave|mallory|acme|hello|{TOWER}|{STRUCTURE}", answer.text)


def test_the_documentation_has_the_table() -> None:
    page = (Path(__file__).parent.parent / "docs" / "operating.md").read_text("utf-8")
    assert metrics_markdown() in page, "paste what repo_notify.contract.markdown.metrics_markdown() returns"


def test_several_workers_on_one_port_say_so(sample: str) -> None:
    port = free_port()
    words = [*command("gunicorn", port), "--workers", "2"]
    with service(words, service_environment(sample), port) as served:
        assert metric(served, "repo_notify_worker_info", shared="true") == 1
        assert metric(served, "repo_notify_worker_info", shared="false") == 0


def test_on_threads_there_is_no_loop_to_be_late(sample: str) -> None:
    app = make_app(sample, REPO_NOTIFY_LEGACY_V4=False)
    RepoNotify(app)
    with serving(app) as url:
        text = requests.get(url + "/notify/metrics", timeout=SECONDS).text
    assert "loop_lag" not in text
    assert 'repo_notify_build_info{async_mode="threading"' in text


def test_on_a_stock_server_of_the_hosts(serve_host: Callable[..., Served], chat: Callable[..., ChatClient]) -> None:
    served = serve_host(STOCK_SOCKETIO={"async_mode": "gevent"})
    client = chat(served.url, cookie=User(served).log_in("carol").cookie)
    client.join(ROOM)
    assert metric(served, "repo_notify_handshakes_total", outcome="accepted") == 1
    assert metric(served, "repo_notify_sessions_total", outcome="user") == 1
    assert metric(served, "repo_notify_connections", transport="websocket") == 1
    client.close()
    until(lambda: metric(served, "repo_notify_disconnects_total") == 1)
    assert metric(served, "repo_notify_disconnects_total", reason="other") == 0
