"""`/notify/readyz`: it asks what permissions and handshakes ask, within the second that probes wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import host_defaults
from tests.support.chat import ChatClient
from tests.support.guarded import PASSWORD, guarded, uri
from tests.support.mongo_proxy import MongoProxy
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.until import until

PROBE_SECONDS = 1.0


def ready(served: Served) -> requests.Response:
    return requests.get(served.url + "/notify/readyz", timeout=SECONDS)


def answered_in_time(served: Served) -> requests.Response:
    """Return an answer that came within a probe's time-out; a busy machine may be late now and then."""
    answers: list[requests.Response] = []

    def in_time() -> bool:
        answers.append(ready(served))
        return answers[-1].elapsed.total_seconds() < PROBE_SECONDS

    until(in_time, lambda: [answer.elapsed for answer in answers])
    return answers[-1]


@pytest.mark.parametrize("mode", ["gevent", "threading"])
def test_a_session_store_that_hangs_is_told_within_a_second(mode: str, sample: str) -> None:
    with MongoProxy(sample) as proxy:
        config = {**host_defaults(proxy.uri), "SESSIONS": "mongodb", "REPO_NOTIFY_ASYNC_MODE": mode}
        with host_app(config) as served:
            assert ready(served).json() == {"status": "ok"}
            proxy.hold("flask_session")
            answer = answered_in_time(served)
            assert answer.status_code == 503
            reasons = {"session_store": "the session store does not answer"}
            assert answer.json() == {"status": "unavailable", "reasons": reasons}
            proxy.release()
            until(lambda: ready(served).json() == {"status": "ok"})


def test_a_database_that_answers_pings_and_no_reads_is_not_ready(sample: str) -> None:
    with MongoProxy(sample) as proxy, host_app(host_defaults(proxy.uri)) as served:
        proxy.hold()
        answer = answered_in_time(served)
        assert answer.json() == {"status": "unavailable", "reasons": {"mongodb": "MongoDB does not answer"}}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with guarded(tmp_path_factory.mktemp("guarded")) as found:
        yield found


@pytest.mark.parametrize(
    ("username", "password", "status", "says"),
    [
        ("reader", PASSWORD, "ok", ""),
        ("no_accounts", PASSWORD, "unavailable", "does not let the service read the accounts: grant"),
        ("no_teamspaces", PASSWORD, "degraded", "does not let the service read a teamspace: grant"),
        ("reader", "wrong", "unavailable", "refuses the service's login: correct the user and password"),
    ],
)
def test_missing_rights_are_told_with_the_cure(
    address: str, username: str, password: str, status: str, says: str, serve_host: Callable[..., Served]
) -> None:
    served = serve_host(REPO_NOTIFY_MONGO_URI=uri(address, username, password))
    answer = ready(served)
    assert answer.json()["status"] == status, answer.text
    assert says in answer.json().get("reasons", {}).get("mongodb", "")
    assert password not in answer.text


def test_what_somebody_asks_for_decides_nothing(host: Served, chat: Callable[..., ChatClient]) -> None:
    client = chat(host.url, cookie=User(host).log_in("carol").cookie)
    client.ask("join", {"teamspace": "nobodys", "project": TOWER, "model": STRUCTURE})
    client.join({"teamspace": "acme", "project": TOWER, "model": STRUCTURE})
    assert ready(host).json() == {"status": "ok"}


def test_an_outage_is_logged_once(sample: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        MongoProxy(sample) as proxy,
        host_app(host_defaults(proxy.uri), stderr=errors.fileno()) as served,
    ):
        proxy.hold()
        for _ in range(3):
            assert ready(served).status_code == 503
        proxy.release()
        until(lambda: ready(served).status_code == 200)
    text = log.read_text()
    assert text.count("readiness: MongoDB does not answer") == 1
    assert "Traceback" not in text
