"""Which handshakes name a user, by what their headers prove of the page that asks (spec section 2, last rule)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import ENGINES, host_defaults
from tests.support.served import SECONDS, Served, User, host_app

OWN, LISTED, FOREIGN = "http://127.0.0.1:{port}", "http://app.example.org", "http://elsewhere.example"
ROOM = f'42["join",{{"teamspace":"acme","project":"{TOWER}","model":"{STRUCTURE}"}}]'
USER, NOBODY, REFUSED = "user", "nobody", "refused"
MESSAGES = {USER: '"event":"success"', NOBODY: "You are not logged in"}


def fetch(site: str, mode: str = "no-cors", **headers: str) -> dict[str, str]:
    return {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, **headers}


def origin(name: str) -> dict[str, str]:
    return {"Origin": name}


def referer(name: str) -> dict[str, str]:
    return {"Referer": f"{name}/page?query"}


# Headers, and what a handshake gets that asks by polling; by JSONP; and by polling where `*` is allowed.
CASES: tuple[tuple[dict[str, str], str, str, str], ...] = (
    ({}, USER, NOBODY, USER),
    (origin(OWN), USER, USER, USER),
    (origin(LISTED), USER, USER, USER),
    (origin(FOREIGN), REFUSED, REFUSED, NOBODY),
    (origin("null"), REFUSED, REFUSED, REFUSED),
    (fetch("none", "navigate"), USER, NOBODY, USER),
    (fetch("same-origin"), USER, USER, USER),
    (fetch("same-origin", **origin(FOREIGN)), REFUSED, REFUSED, NOBODY),
    (fetch("same-site"), REFUSED, REFUSED, REFUSED),
    (fetch("cross-site"), REFUSED, REFUSED, REFUSED),
    (fetch("cross-site", "navigate"), REFUSED, REFUSED, REFUSED),
    (fetch("something new"), REFUSED, REFUSED, REFUSED),
    (fetch("same-site", **referer(LISTED)), USER, USER, USER),
    (fetch("cross-site", **referer(LISTED)), USER, USER, USER),
    (fetch("cross-site", **referer(FOREIGN)), REFUSED, REFUSED, NOBODY),
    (fetch("cross-site", **origin(LISTED)), USER, USER, USER),
    (referer(OWN), USER, USER, USER),
    (referer(LISTED), USER, USER, USER),
    (referer(FOREIGN), REFUSED, REFUSED, NOBODY),
    (referer(LISTED + ".elsewhere.example"), REFUSED, REFUSED, NOBODY),
    ({"Referer": "http://["}, REFUSED, REFUSED, REFUSED),
    ({"Referer": "about:blank"}, REFUSED, REFUSED, REFUSED),
)


def config(sample: str, **further: Any) -> dict[str, Any]:
    return {**host_defaults(sample), "REPO_NOTIFY_ALLOWED_ORIGINS": [LISTED], **further}


@pytest.fixture(scope="module")
def strict(sample: str) -> Iterator[Served]:
    jsonp = {"REPO_NOTIFY_JSONP": True} if host_defaults(sample)["REPO_NOTIFY_LEGACY_V4"] else {}
    with host_app(config(sample, **jsonp)) as served:
        yield served


@pytest.fixture(scope="module")
def lax(sample: str) -> Iterator[Served]:
    with host_app(config(sample, REPO_NOTIFY_ALLOWED_ORIGINS=[LISTED, "*"])) as served:
        yield served


def sid_of(greeting: str) -> str:
    """The session's id; within a script the quotes are escaped."""
    found = re.search(r'sid\\?":\\?"([\w-]+)', greeting)
    assert found is not None, greeting
    return found[1]


def outcome(served: Served, headers: dict[str, str], query: str = "", *, by_query: bool = False) -> str:
    """Make a handshake with carol's cookie, as a header or as a query parameter, and join: what becomes of it."""
    cookie = User(served).log_in("carol").cookie
    eio = 3 if query else 4
    address = f"{served.url}/chat/?EIO={eio}&transport=polling"
    sent = {name: value.format(port=served.port) for name, value in headers.items()}
    brought, named = ({}, f"&{cookie}") if by_query else ({"Cookie": cookie}, "")
    opened = requests.get(address + query + named, headers={**sent, **brought}, timeout=SECONDS)
    assert opened.headers["X-Content-Type-Options"] == "nosniff"
    assert opened.headers["Cross-Origin-Resource-Policy"] == (
        "cross-origin" if query and opened.ok else "same-origin"
    )
    if opened.status_code == 400:
        assert "Origin not allowed" in opened.text
        return REFUSED
    address += f"&sid={sid_of(opened.text)}"
    for packet in ("40", ROOM)[eio == 3 :]:
        body = f"{len(packet)}:{packet}" if eio == 3 else packet
        requests.post(address, body, timeout=SECONDS).raise_for_status()
    return heard(address)


def heard(address: str) -> str:
    """Poll until a join is answered."""
    text = ""
    while not (found := [outcome for outcome, said in MESSAGES.items() if said in text]):
        answer = requests.get(address, timeout=SECONDS)
        answer.raise_for_status()
        text += answer.text
    return found[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]))
def test_polling(strict: Served, case: tuple[dict[str, str], str, str, str]) -> None:
    assert outcome(strict, case[0]) == case[1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]))
def test_jsonp(strict: Served, case: tuple[dict[str, str], str, str, str]) -> None:
    pytest.importorskip("legacy_v4")
    assert outcome(strict, case[0], "&j=0") == case[2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]))
def test_polling_where_every_origin_is_allowed(lax: Served, case: tuple[dict[str, str], str, str, str]) -> None:
    assert outcome(lax, case[0]) == case[3]


def test_the_query_parameter_is_no_way_round(strict: Served, lax: Served) -> None:
    pytest.importorskip("legacy_v4")
    assert outcome(strict, {}, by_query=True) == USER
    assert outcome(strict, {}, "&j=0", by_query=True) == NOBODY
    assert outcome(lax, origin(FOREIGN), by_query=True) == NOBODY


def test_a_setting_gives_every_origin_its_visitors_cookies(sample: str) -> None:
    every = {"REPO_NOTIFY_ALLOWED_ORIGINS": "*", "REPO_NOTIFY_ALLOW_ANY_ORIGIN_CREDENTIALS": True}
    with host_app(config(sample, **every)) as served:
        assert outcome(served, origin(FOREIGN)) == USER
        assert outcome(served, origin("null")) == REFUSED
        address = served.url + "/chat/?EIO=4&transport=polling"
        answer = requests.get(address, headers=origin(FOREIGN), timeout=SECONDS)
        assert answer.headers["Access-Control-Allow-Origin"] == FOREIGN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"


def test_a_hidden_origin_is_let_in_by_a_value_of_its_own(sample: str) -> None:
    with host_app(config(sample, REPO_NOTIFY_ALLOWED_ORIGINS="null")) as served:
        assert outcome(served, origin("null")) == NOBODY
        assert outcome(served, origin(FOREIGN)) == REFUSED
        # A page that embeds the answer is no page that asks for it.
        assert outcome(served, fetch("cross-site")) == REFUSED
    every = {"REPO_NOTIFY_ALLOWED_ORIGINS": "*, null", "REPO_NOTIFY_ALLOW_ANY_ORIGIN_CREDENTIALS": True}
    with host_app(config(sample, **every)) as served:
        assert outcome(served, origin("null")) == outcome(served, origin(FOREIGN)) == USER
        address = served.url + "/chat/?EIO=4&transport=polling"
        answer = requests.get(address, headers=origin("null"), timeout=SECONDS)
        assert answer.headers["Access-Control-Allow-Origin"] == "null"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"


def test_a_session_is_no_other_pages_to_use(strict: Served) -> None:
    address = strict.url + "/chat/?EIO=4&transport=polling"
    address += f"&sid={sid_of(requests.get(address, timeout=SECONDS).text)}"
    for headers, method in itertools.product(
        (origin(FOREIGN), origin("null"), fetch("cross-site"), referer(FOREIGN)), ("GET", "POST", "OPTIONS")
    ):
        body = "40" if method == "POST" else None
        answer = requests.request(
            method, address, data=body, headers={**headers, "Content-Type": "text/plain"}, timeout=SECONDS
        )
        assert (answer.status_code, "Access-Control-Allow-Origin" in answer.headers) == (400, False), (headers, method)
    assert requests.post(address, "40", timeout=SECONDS).text == "ok"


def test_jsonp_is_off_by_default(host: Served) -> None:
    pytest.importorskip("legacy_v4")
    answer = requests.get(host.url + "/chat/?EIO=3&transport=polling&j=0", timeout=SECONDS)
    assert answer.status_code == 400
    assert "REPO_NOTIFY_JSONP" in answer.json()["message"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# The stock server answers JSONP for EIO=4, and its own list of origins is the host's.
@pytest.mark.parametrize(
    ("cors", "headers", "query", "found"),
    [
        (None, {}, "", USER),
        (None, {}, "&j=0", NOBODY),
        (None, fetch("same-site"), "&j=0", NOBODY),
        (None, fetch("same-site"), "", NOBODY),
        (None, origin(OWN), "", USER),
        ([FOREIGN], origin(FOREIGN), "", USER),
        ("*", origin(FOREIGN), "", NOBODY),
        ([], origin(FOREIGN), "", NOBODY),
        ("*", origin(LISTED), "", USER),
        ("*", origin(OWN), "", USER),
    ],
)
def test_on_a_stock_server(sample: str, cors: Any, headers: dict[str, str], query: str, found: str) -> None:
    stock = {"STOCK_SOCKETIO": {**ENGINES["stock"]["STOCK_SOCKETIO"], "cors_allowed_origins": cors}}
    with host_app(config(sample, **stock)) as served:
        cookie = User(served).log_in("carol").cookie
        address = f"{served.url}/chat/?EIO=4&transport=polling"
        sent = {name: value.format(port=served.port) for name, value in headers.items()}
        opened = requests.get(address + query, headers={**sent, "Cookie": cookie}, timeout=SECONDS)
        address += f"&sid={sid_of(opened.text)}"
        for packet in ("40", ROOM):
            requests.post(address, packet, timeout=SECONDS).raise_for_status()
        assert heard(address) == found


def test_a_host_that_reads_the_session_itself_sees_none_either(sample: str) -> None:
    """The environ of a connection is what a host's own `connect` handler gets."""
    from repo_notify.engine.engine_io.origins import NO_CREDENTIALS, drop_credentials

    environ: dict[str, Any] = {"HTTP_COOKIE": "a=b", "HTTP_AUTHORIZATION": "Basic x", "HTTP_HOST": "h"}
    drop_credentials(environ)
    assert environ == {"HTTP_HOST": "h", NO_CREDENTIALS: True}
