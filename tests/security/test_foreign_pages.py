"""A page of another origin must not get a user's socket, in a real browser (spec section 2, last rule)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from selenium import webdriver

pytest.importorskip("legacy_v4")

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import host_defaults
from tests.console.browser import chromium
from tests.legacy_v4.conftest import observed_host, state_of
from tests.support.served import SECONDS, Served, User

pytestmark = pytest.mark.browser

# Both names are of one site, so that the browser sends the one's cookies with what the other's pages ask for; Chromium
# resolves them to loopback by itself.
SERVICE, ELSEWHERE = "chat.repo.localhost", "other.repo.localhost"
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
PAGE = Path(__file__).with_name("foreign.html")
NO_REFERRER = b'<meta name="referrer" content="no-referrer">'


@contextmanager
def page_elsewhere() -> Iterator[str]:
    """Serve the page at `/`, and at `/silent` so that it does not say where it is; yields its origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE.read_bytes() + (NO_REFERRER if self.path == "/silent" else b""))

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{ELSEWHERE}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    with page_elsewhere() as origin:
        yield origin


Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: webdriver.Chrome, elsewhere: str) -> Visit:
    """Log carol in at the service, and have the page elsewhere call one of its functions."""

    def call(served: Served, script: str, *arguments: Any, path: str = "/") -> Any:
        service = f"http://{SERVICE}:{served.port}"
        browser.get(f"{service}/plain")
        browser.delete_all_cookies()
        name, _, value = User(served).log_in("carol").cookie.partition("=")
        browser.add_cookie({"name": name, "value": value})
        browser.get(elsewhere + path)
        call = f"const done = arguments[arguments.length - 1]; {script}(...[...arguments].slice(0, -1)).then(done)"
        return browser.execute_async_script(call, service, *arguments)

    return call


def join_with(served: Served, greeting: str) -> str:
    """Join as somebody to whom the page has told what it read: a session's id is all that polling needs."""
    sid = json.loads(greeting[greeting.index("{") : greeting.rindex("}") + 1])["sid"]
    address = f"{served.url}/chat/?EIO=3&transport=polling&sid={sid}"
    packet = f'42["join",{json.dumps(ROOM)}]'
    requests.post(address, f"{len(packet)}:{packet}", timeout=SECONDS).raise_for_status()
    heard = ""
    while "42[" not in heard:
        answer = requests.get(address, timeout=SECONDS)
        answer.raise_for_status()
        heard += answer.text
    return heard


@pytest.mark.parametrize("path", ["/", "/silent"])
@pytest.mark.parametrize("config", [{}, {"REPO_NOTIFY_JSONP": True}], ids=["by default", "with JSONP"])
def test_scripts_get_nobody_elses_socket(sample: str, visit: Visit, config: dict[str, Any], path: str) -> None:
    with observed_host({**host_defaults(sample), **config}) as served:
        greeting = visit(served, "openByScript", path=path)
        assert not greeting, join_with(served, greeting)
        assert state_of(served)["connections"] == 0


def test_scripts_of_a_listed_origin_get_the_users(sample: str, visit: Visit, elsewhere: str) -> None:
    listed = {"REPO_NOTIFY_JSONP": True, "REPO_NOTIFY_ALLOWED_ORIGINS": [elsewhere]}
    with observed_host({**host_defaults(sample), **listed}) as served:
        assert '"event":"success"' in join_with(served, visit(served, "openByScript"))


@pytest.mark.parametrize("origins", [[], "*"], ids=["own", "any"])
def test_blind_handshakes_bind_nobody(sample: str, visit: Visit, origins: Any) -> None:
    with observed_host({**host_defaults(sample), "REPO_NOTIFY_ALLOWED_ORIGINS": origins}) as served:
        assert visit(served, "openBlindly") == ""
        assert state_of(served)["bound"] == 0


def test_the_services_own_pages_are_known_without_an_origin_header(
    sample: str, visit: Visit, browser: webdriver.Chrome
) -> None:
    with observed_host(host_defaults(sample)) as served:
        visit(served, "Promise.resolve")
        browser.get(f"http://{SERVICE}:{served.port}/plain")
        ask = "fetch('/chat/?EIO=4&transport=polling').then((answer) => answer.text()).then(arguments[0])"
        assert browser.execute_async_script(ask).startswith("0{")
        assert state_of(served)["bound"] == 1
