"""Two processes behind the nginx that docs/deploying.md shows: TLS, sticky polling, WebSockets, one message queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import host_defaults
from tests.support import brokers
from tests.support.chat import ChatClient
from tests.support.documented import documented_nginx
from tests.support.metrics import metric
from tests.support.nginx import nginx
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.tls import certificates

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

Connect = Callable[..., ChatClient]
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
WAYS = (("websocket",), ("polling",), ("polling", "websocket"))
# nginx tells clients apart by their addresses; here each says its own.
ADDRESSES = [f"198.51.100.{number}" for number in range(8)]


@dataclass(frozen=True)
class Site:
    """The processes, what is in front of them, and the file of who signed its certificate."""

    front: Served
    workers: tuple[Served, Served]
    authority: str


@pytest.fixture(scope="module")
def site(sample: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    authority, certificate = certificates(folder)
    with ExitStack() as stack:
        queue = stack.enter_context(brokers.redis(tmp_path_factory.mktemp("redis")))
        config = {**host_defaults(sample), "REPO_NOTIFY_MESSAGE_QUEUE": queue, "REPO_NOTIFY_TRUSTED_PROXIES": 1}
        here, there = (stack.enter_context(host_app(config)) for _ in range(2))
        port = free_port()
        http = documented_nginx(folder, certificate, port, [here.port, there.port])
        front = stack.enter_context(nginx(folder, http, f"https://localhost:{port}"))
        yield Site(front, (here, there), str(authority))


def connections(site: Site) -> list[float]:
    return [metric(served, "repo_notify_connections") for served in site.workers]


@pytest.mark.parametrize("transports", WAYS, ids="+".join)
def test_clients_of_both_processes_hear_everything_once_in_order(
    site: Site, chat: Connect, transports: tuple[str, ...]
) -> None:
    before = connections(site)
    clients = [
        chat(
            site.front.url,
            cookie=User(site.workers[0]).log_in("carol").cookie,
            headers={"X-Claimed-Address": address},
            transports=transports,
            authority=site.authority,
        )
        for address in ADDRESSES
    ]
    for client in clients:
        client.join(ROOM)
    assert all(now > earlier for now, earlier in zip(connections(site), before, strict=True))
    emitter = clients[0]
    publishers = [User(worker).log_in("carol") for worker in site.workers]
    for number in range(50):
        publishers[number % 2].publish(
            "TicketUpdated", **ROOM, kind="container", data={"n": number}, socket_id=emitter.id
        )
    for client in clients[1:]:
        heard = [client.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(50)]
        # Each process's own are in order; the queue is as fast as it is.
        assert [n for n in heard if n % 2 == 0] == list(range(0, 50, 2))
        assert [n for n in heard if n % 2] == list(range(1, 50, 2))
        assert client.heard_so_far() == []
    assert emitter.heard_so_far() == []


def test_config_js_names_the_address_that_the_browser_asked(site: Site) -> None:
    found = requests.get(site.front.url + "/config/config.js", verify=site.authority, timeout=SECONDS)
    assert json.loads(found.text.partition("= ")[2].rstrip(";\n"))["chatHost"] == site.front.url


@pytest.mark.parametrize("path", ["/notify/metrics", "/notify/readyz", "/notify/events", "/notify/rooms"])
def test_what_is_for_the_inside_stays_inside(site: Site, path: str) -> None:
    assert requests.get(site.front.url + path, verify=site.authority, timeout=SECONDS).status_code == 404


def test_everything_else_goes_to_the_app(site: Site) -> None:
    found = requests.get(site.front.url + "/plain", verify=site.authority, timeout=SECONDS)
    assert found.json() == {"plain": True}


def test_another_origin_is_refused(site: Site) -> None:
    polling = site.front.url + "/chat/?EIO=4&transport=polling"
    for origin, status in ((site.front.url, 200), ("https://evil.example", 400)):
        found = requests.get(polling, headers={"Origin": origin}, verify=site.authority, timeout=SECONDS)
        assert found.status_code == status
