"""Which origins may connect, directly and behind proxies (spec sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from websocket import WebSocketBadStatusException, create_connection

from repo_notify.web.origins import OriginCheck, own_address, with_port
from tests.conftest import host_defaults
from tests.support.nginx import nginx
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, host_app

ANYBODYS = "https://anything.example"
LISTED = ["https://app.example.org", "http://Other.example.org:8080", "https://[2001:DB8::1]"]
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "chat.example.org", "X-Forwarded-For": "192.0.2.1"}
TWO = {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "chat.example.org, inner"}


class Case(NamedTuple):
    """A handshake's headers and what becomes of it; `{port}` stands for the service's own."""

    origin: str | None
    allowed: bool
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


OWN = (
    Case(None, True),
    Case("http://127.0.0.1:{port}", True),
    Case("HTTP://127.0.0.1:{port}", True),
    Case("https://127.0.0.1:{port}", False),
    Case("http://127.0.0.1", False),
    Case("http://localhost:{port}", False),
    Case("http://localhost:{port}", True, {"Host": "LocalHost:{port}"}),
    Case("http://chat.example.org", True, {"Host": "chat.example.org"}),
    Case("http://chat.example.org:80", True, {"Host": "chat.example.org"}),
    Case("http://chat.example.org", True, {"Host": "chat.example.org:80"}),
    Case("http://chat.example.org:81", False, {"Host": "chat.example.org"}),
    Case("http://[::1]:5000", True, {"Host": "[::1]:5000"}),
    Case("null", False),
    Case("", False),
    Case("chat.example.org", False),
    Case("http://", False),
    Case("http://[", False),
    Case("http://127.0.0.1:{port}.evil.example", False),
    Case("file://", False),
)
CASES: dict[str, tuple[dict[str, Any], tuple[Case, ...]]] = {
    "defaults": (
        {},
        (
            *OWN,
            Case("https://app.example.org", False),
            Case("https://chat.example.org", False, FORWARDED),
            Case("https://chat.example.org", False, {"Forwarded": "proto=https;host=chat.example.org"}),
        ),
    ),
    "listed": (
        {"REPO_NOTIFY_ALLOWED_ORIGINS": LISTED},
        (
            *OWN,
            Case("https://app.example.org", True),
            Case("https://APP.example.org:443", True),
            Case("https://app.example.org:444", False),
            Case("http://app.example.org", False),
            Case("https://sub.app.example.org", False),
            Case("https://app.example.org.evil.example", False),
            Case("http://other.example.org:8080", True),
            Case("http://other.example.org", False),
            Case("https://[2001:db8::1]", True),
        ),
    ),
    "any": (
        {"REPO_NOTIFY_ALLOWED_ORIGINS": "*"},
        (
            Case(ANYBODYS, True),
            Case("http://127.0.0.1:{port}", True),
            Case("null", False),
            Case("", False),
            Case(None, True),
        ),
    ),
    "null": (
        {"REPO_NOTIFY_ALLOWED_ORIGINS": "null"},
        (Case("null", True), Case("NULL", False), Case("", False), Case("https://app.example.org", False), *OWN[1:4]),
    ),
    "any, null too": (
        {"REPO_NOTIFY_ALLOWED_ORIGINS": "*, null"},
        (Case("null", True), Case(ANYBODYS, True), Case("", False), Case("http://127.0.0.1:{port}", True)),
    ),
    "one proxy": (
        {"REPO_NOTIFY_TRUSTED_PROXIES": 1},
        (
            Case("https://chat.example.org", True, FORWARDED),
            Case("https://chat.example.org:443", True, FORWARDED),
            Case("http://chat.example.org", False, FORWARDED),
            Case("https://evil.example", False, FORWARDED),
            Case("https://chat.example.org:8443", True, {**FORWARDED, "X-Forwarded-Host": "chat.example.org:8443"}),
            Case("https://chat.example.org:8443", True, {**FORWARDED, "X-Forwarded-Port": "8443"}),
            # What the client itself sent stands before what the proxy added.
            Case("https://evil.example", False, {**FORWARDED, "X-Forwarded-Host": "evil.example, chat.example.org"}),
            Case("https://chat.example.org", True, {**FORWARDED, "X-Forwarded-Host": "evil.example, chat.example.org"}),
            Case("http://127.0.0.1:{port}", True),
            Case("https://127.0.0.1:{port}", True, {"X-Forwarded-Proto": "https"}),
        ),
    ),
    "two proxies": (
        {"REPO_NOTIFY_TRUSTED_PROXIES": 2},
        (
            Case("https://chat.example.org", True, TWO),
            Case("http://inner", False, TWO),
            # One value where two are expected: somebody came past the outer proxy.
            Case("https://chat.example.org", False, FORWARDED),
        ),
    ),
}


@pytest.fixture(scope="module", params=CASES)
def served(request: pytest.FixtureRequest, sample: str) -> Iterator[tuple[Served, tuple[Case, ...]]]:
    config, cases = CASES[request.param]
    with host_app({**host_defaults(sample), **config}) as found:
        yield found, cases


def headers_of(case: Case, port: int) -> dict[str, str]:
    origin = {} if case.origin is None else {"Origin": case.origin}
    return {name: value.replace("{port}", str(port)) for name, value in {**case.headers, **origin}.items()}


def test_polling(served: tuple[Served, tuple[Case, ...]]) -> None:
    server, cases = served
    for case in cases:
        headers = headers_of(case, server.port)
        answer = requests.get(server.url + "/chat/?EIO=4&transport=polling", headers=headers, timeout=SECONDS)
        assert (answer.status_code == 200) == case.allowed, (case, answer.text)
        if case.allowed:
            assert answer.text.startswith("0{")
            told = "*" if case.origin in (ANYBODYS, "null") else headers.get("Origin")
            assert answer.headers.get("Access-Control-Allow-Origin") == told
            named = told not in (None, "*")
            assert answer.headers.get("Access-Control-Allow-Credentials") == ("true" if named else None)
        else:
            assert 400 <= answer.status_code < 404
            assert "origin" in answer.text.lower()
            assert "Access-Control-Allow-Origin" not in answer.headers


def connects(server: Served, headers: dict[str, str]) -> bool:
    host = headers.pop("Host", None)
    try:
        raw = create_connection(
            f"ws://127.0.0.1:{server.port}/chat/?EIO=4&transport=websocket",
            header=headers,
            host=host,
            suppress_origin=True,
            timeout=SECONDS,
        )
    except WebSocketBadStatusException as error:
        return error.status_code not in range(400, 404)
    try:
        return str(raw.recv()).startswith("0{")
    finally:
        raw.close(timeout=0)


def test_websocket(served: tuple[Served, tuple[Case, ...]]) -> None:
    server, cases = served
    for case in cases:
        assert connects(server, headers_of(case, server.port)) == case.allowed, case


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("HTTPS://A.example.org", "https://a.example.org:443"),
        ("http://a:80/path", "http://a:80"),
        ("wss://a", "wss://a:443"),
        ("http://[::1]", "http://[::1]:80"),
        ("ftp://a", ""),
        ("a:80", ""),
        ("http://a:port", ""),
        ("http://a:99999", ""),
        ("null", ""),
        ("", ""),
        ("http://[", ""),
    ],
)
def test_with_port(address: str, found: str) -> None:
    assert with_port(address) == found


def test_a_request_without_a_host_header_has_the_servers_name() -> None:
    environ = {"wsgi.url_scheme": "http", "SERVER_NAME": "Name", "SERVER_PORT": "8000"}
    assert own_address(environ) == "http://name:8000"
    assert OriginCheck(())("http://name:8000", environ)


NGINX = """
map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://127.0.0.1:{upstream};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-Proto https;
    }}
}}
"""


@contextmanager
def proxied(folder: Path, upstream: Served) -> Iterator[Served]:
    """Run an nginx in front of the service that says it ends TLS."""
    port = free_port()
    with nginx(folder, NGINX.format(port=port, upstream=upstream.port), f"http://127.0.0.1:{port}") as front:
        yield front


@pytest.mark.parametrize(("proxies", "trusted"), [(1, True), (0, False)])
def test_behind_a_real_nginx(sample: str, tmp_path: Path, proxies: int, trusted: bool) -> None:
    config = {**host_defaults(sample), "REPO_NOTIFY_TRUSTED_PROXIES": proxies}
    with host_app(config) as upstream, proxied(tmp_path, upstream) as front:
        for host in ("chat.example.org", f"chat.example.org:{front.port}"):
            own = {"Host": host, "Origin": f"https://{host}"}
            polling = front.url + "/chat/?EIO=4&transport=polling"
            assert (requests.get(polling, headers=own, timeout=SECONDS).status_code == 200) == trusted
            assert connects(front, dict(own)) == trusted
            forged = {**own, "Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}
            assert requests.get(polling, headers=forged, timeout=SECONDS).status_code == 400
            assert not connects(front, dict(forged))
            script = requests.get(front.url + "/config/config.js", headers=own, timeout=SECONDS).text
            address = f"https://{host}".replace("/", "\\u002F")
            assert (f'"{address}"' in script) == trusted
