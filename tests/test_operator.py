"""The operator's view: who is in which room, and why somebody did not hear of a change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER, WHOLE
from tests.conftest import ENGINES, host_defaults
from tests.support.chat import ChatClient
from tests.support.mongo_proxy import MongoProxy
from tests.support.ports import free_port
from tests.support.raw import RawSocket
from tests.support.served import SECONDS, Served, User, forked, host_app
from tests.support.until import until

KEY = "an operator's key"
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
# The host app has a checker.
AGREES = "; the app's access_checker returned True"
OWN = {"teamspace": "acme", "project": "0d9f3b0e-3c1c-4e0b-9d5e-6f1f6a0c7b11", "model": "m1"}
Connect = Callable[..., ChatClient]


def ask(served: Served, path: str, key: str | None = KEY, accept: str = "*/*", **query: Any) -> requests.Response:
    headers = {"Accept": accept, **({"Authorization": f"Bearer {key}"} if key else {})}
    return requests.get(f"{served.url}/notify/{path}", params=query, headers=headers, timeout=SECONDS)


def explained(served: Served, **query: Any) -> dict[str, Any]:
    answer = ask(served, "explain", **{"username": "carol", "teamspace": "acme", "model": STRUCTURE, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    return found


def check(found: dict[str, Any], name: str) -> tuple[bool, str]:
    (one,) = (item for item in found["checks"] if item["check"] == name)
    return one["ok"], one["why"]


def fails(served: Served, name: str) -> str:
    """Wait until a check fails, and return why, from the very answer in which it did."""
    reasons: list[str] = []

    def failed() -> bool:
        holds, why = check(explained(served), name)
        reasons.append(why)
        return not holds

    until(failed, lambda: reasons[-1])
    return reasons[-1]


@pytest.fixture(scope="module", params=ENGINES)
def served(request: pytest.FixtureRequest, sample: str) -> Iterator[Served]:
    config = {**host_defaults(sample), **ENGINES[request.param], "REPO_NOTIFY_API_KEY": KEY}
    with host_app(config) as found:
        yield found


@pytest.fixture
def own(serve_host: Callable[..., Served]) -> Served:
    return serve_host(REPO_NOTIFY_API_KEY=KEY)


@pytest.mark.parametrize("path", ["rooms", "explain"])
def test_it_needs_the_key(served: Served, host: Served, path: str) -> None:
    assert ask(served, path, key=None).status_code == 401
    assert ask(served, path, key="wrong").status_code == 401
    without = ask(host, path)
    assert without.status_code == 404
    assert without.json()["errors"] == [{"message": "the operator's view is off: REPO_NOTIFY_API_KEY is not set"}]


def test_rooms_and_their_members(served: Served, chat: Connect, transport: str) -> None:
    client = chat(served.url, cookie=User(served).log_in("carol").cookie, transports=(transport,))
    client.join(ROOM)
    def answer() -> dict[str, Any]:
        found: dict[str, Any] = ask(served, "rooms", teamspace="acme", model=STRUCTURE.upper()).json()
        return found

    # The clients of earlier tests may be about to leave.
    until(lambda: [room["member_count"] for room in answer()["rooms"]] == [1], answer)
    body = answer()
    (room,) = body["rooms"]
    assert (room["kind"], room["join"], room["member_count"]) == ("model", ROOM, 1)
    (member,) = room["members"]
    assert (member["user"], member["generation"], member["transport"]) == ("carol", "4", transport)
    assert member["since"].endswith("Z")
    assert not member["waiting_bytes"]
    assert client.engine_id.startswith(member["connection"])
    assert client.engine_id not in ask(served, "rooms").text
    assert body["process"]["answers_for"] == "this process"
    assert isinstance(body["process"]["pid"], int)
    assert body["process"]["build"]


def test_pages_of_rooms(own: Served, chat: Connect) -> None:
    client = chat(own.url, cookie=User(own).log_in("alice").cookie)
    for model in (STRUCTURE, WHOLE):
        client.join({**ROOM, "model": model})
    client.join({"teamspace": "acme", "project": TOWER})
    client.join({"notifications": True})
    found, after = [], ""
    for _ in range(4):
        page = ask(own, "rooms", limit=1, after=after).json()
        found += [room["join"] for room in page["rooms"]]
        after = page.get("next", "")
    assert after == ""
    assert len(found) == 4
    assert {"username": "alice"} in found
    assert [room["join"]["model"] for room in ask(own, "rooms", model=WHOLE).json()["rooms"]] == [WHOLE]
    assert ask(own, "rooms", teamspace="elsewhere").json()["rooms"] == []


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many", "", "9" * 30])
def test_a_limit_that_is_none(served: Served, limit: str) -> None:
    answer = ask(served, "rooms", limit=limit)
    assert answer.status_code == 400
    assert "limit should be a whole number from 1 to 1000" in answer.text


def test_who_hears(served: Served, chat: Connect) -> None:
    chat(served.url, cookie=User(served).log_in("carol").cookie).join(ROOM)
    found = explained(served, project=TOWER)
    assert found["hears"] is True, found
    assert found["answer"].startswith("carol hears here of changes of the model, but for those")
    # How the clients of earlier tests ended is not the matter.
    assert all(item["ok"] for item in found["checks"] if item["check"] != "cut")
    assert check(found, "allowed") == (True, "acme.settings of the model: permission viewer" + AGREES)
    assert check(found, "account") == (True, "admin.users has the account carol")


@pytest.mark.parametrize(
    ("username", "room"), [("bob", {"account": "acme", "model": STRUCTURE}), ("alice", {"account": "acme"})]
)
def test_v4_rooms_count(served: Served, chat: Connect, username: str, room: dict[str, str]) -> None:
    pytest.importorskip("legacy_v4")
    chat(served.url, cookie=User(served).log_in(username).cookie).join(room)
    assert check(explained(served, username=username), "joined") == (True, "1 of 1 in a room that hears of the model")


@pytest.mark.parametrize(
    ("username", "says"),
    [
        ("alice", "acme.teamspace: teamspace_admin"),
        ("bob", f"acme.projects of {TOWER}: admin_project"),
        ("acme", "the teamspace is the user's own"),
    ],
)
def test_which_document_allows_it(served: Served, username: str, says: str) -> None:
    assert check(explained(served, username=username), "allowed") == (True, says + AGREES)


def test_older_data_is_no_reason_where_it_does_not_count(serve_host: Callable[..., Served]) -> None:
    served = serve_host(REPO_NOTIFY_API_KEY=KEY, REPO_NOTIFY_LEGACY_PERMISSIONS=False)
    says = "no document of acme gives acme a right to the model"
    assert check(explained(served, username="acme"), "allowed") == (False, says)


@pytest.mark.parametrize(
    ("users", "says"), [(["carol"], "returned False"), (["raise"], "raised RuntimeError")], ids=["refuses", "raises"]
)
def test_the_hosts_checker_decides(own: Served, chat: Connect, users: list[str], says: str) -> None:
    carol = User(own).log_in("carol")
    carol.post("/deny", {"users": users}).raise_for_status()
    assert chat(own.url, cookie=carol.cookie).ask("join", ROOM)["code"] == "ROOM_NOT_FOUND"
    allowed = f"acme.settings of the model: permission viewer; the app's access_checker {says}"
    assert check(explained(own), "allowed") == (False, allowed)
    # Who has no right is not asked about.
    assert "access_checker" not in str(explained(own, username="mallory"))


@pytest.fixture(scope="module")
def own_rights() -> Iterator[Served]:
    config = {
        "REPO_NOTIFY_MONGO_URI": f"mongodb://127.0.0.1:{free_port()}",
        "REPO_NOTIFY_LEGACY_V4": False,
        "REPO_NOTIFY_PERMISSION_CACHE_SECONDS": 0,
        "REPO_NOTIFY_API_KEY": KEY,
    }
    with forked("tests.support.own_rights", json.dumps(config)) as served:
        yield served


@pytest.mark.parametrize(
    ("rights", "says"),
    [
        ({}, "returned False"),
        ({"fails": True}, "raised LookupError, so that nobody new is let in"),
        ({"answer": "yes"}, "returned neither True nor False, but str, so that nobody new is let in"),
        ({"asks": True}, "raised RuntimeError, so that nobody new is let in"),
    ],
    ids=["refuses", "raises", "a text", "needs a request"],
)
def test_the_hosts_loader_refuses(own_rights: Served, chat: Connect, rights: dict[str, Any], says: str) -> None:
    carol = User(own_rights).log_in("carol")
    granted = [["carol", *OWN.values()]] if "answer" in rights else []
    carol.post("/rights", {"granted": granted, **rights}).raise_for_status()
    assert "code" in chat(own_rights.url, cookie=carol.cookie).ask("join", OWN)
    found = explained(own_rights, **OWN)
    assert check(found, "allowed") == (False, f"the app's permission_loader {says}")
    assert "MongoDB does not answer" not in str(found)


def test_the_hosts_loader_allows(own_rights: Served, chat: Connect) -> None:
    carol = User(own_rights).log_in("carol")
    carol.post("/rights", {"granted": [["carol", *OWN.values()]]}).raise_for_status()
    chat(own_rights.url, cookie=carol.cookie).join(OWN)
    found = explained(own_rights, **OWN)
    assert found["hears"] is True
    assert check(found, "allowed") == (True, "the app's permission_loader returned True")
    assert check(found, "account")[0] is True
    asked = {"username": "carol", "teamspace": "acme", "model": "m1"}
    says = "the app's permission_loader returned False when asked without a project, as for a v4 room"
    assert check(explained(own_rights, **asked), "allowed")[1].startswith(says)
    shapeless = explained(own_rights, **{**OWN, "project": "tower"})
    assert check(shapeless, "allowed") == (False, "that is no model's, or no project's, id")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"username": "mallory"}, "no document of acme gives mallory a right to the model"),
        ({"model": TOWER}, "acme.settings has no such model"),
        ({"project": STRUCTURE}, "no such project in acme.projects has the model in its `models`"),
        ({"teamspace": "admin"}, "that is no teamspace's name"),
        ({"project": "tower"}, "that is no model's, or no project's, id"),
    ],
)
def test_why_it_is_not_allowed(served: Served, query: dict[str, str], says: str) -> None:
    assert check(explained(served, **query), "allowed") == (False, says)


def test_why_she_does_not_hear(own: Served, chat: Connect) -> None:
    found = explained(own)
    assert found["hears"] is False
    assert check(found, "connected") == (False, "no connection here is carol's; none has ended lately either")
    client = chat(own.url, cookie=User(own).log_in("carol").cookie)
    found = explained(own)
    assert check(found, "connected") == (True, "1 here (websocket, Engine.IO 4)")
    assert "did not emit `join`, was refused, or did not join anew" in check(found, "joined")[1]
    assert found["answer"].startswith("carol does not hear here of changes of the model: connected, and not in")
    client.close()
    assert "the last ended" in fails(own, "connected")
    assert check(explained(own, username="Carol"), "account")[1].endswith("names are compared letter by letter")


def test_a_client_that_takes_nothing_is_slow_and_then_cut(serve_host: Callable[..., Served]) -> None:
    served = serve_host(REPO_NOTIFY_API_KEY=KEY, REPO_NOTIFY_MAX_OUTBOX_SECONDS=3)
    user = User(served).log_in("carol")
    with RawSocket.connect(served.url, user.cookie) as stalled:
        stalled.send("42" + json.dumps(["join", ROOM]))
        until(lambda: explained(served)["hears"] is True)
        for _ in range(8):
            user.publish("TicketUpdated", **ROOM, kind="container", data={"text": "x" * 1_000_000})
        assert "bytes wait to be taken, for" in fails(served, "slow")
        assert "it did not take what was sent to it (REPO_NOTIFY_MAX_OUTBOX_BYTES" in fails(served, "cut")
    assert explained(served)["hears"] is False


def test_without_the_database(sample: str) -> None:
    with MongoProxy(sample) as proxy:
        config = {**host_defaults(proxy.uri), "REPO_NOTIFY_API_KEY": KEY, "REPO_NOTIFY_PERMISSION_TIMEOUT": 0.5}
        with host_app(config) as served:
            proxy.hold()
            found = explained(served)
            assert check(found, "account") == (False, "MongoDB does not answer")
            assert check(found, "allowed") == (False, "MongoDB does not answer, so that nobody new is let in")


def test_without_the_queue(serve_host: Callable[..., Served]) -> None:
    queue = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    served = serve_host(REPO_NOTIFY_API_KEY=KEY, REPO_NOTIFY_MESSAGE_QUEUE=queue)
    found = explained(served)
    assert check(found, "queue")[0] is False
    assert "hunter2" not in str(found)


def test_what_is_missing_is_named(served: Served) -> None:
    answer = ask(served, "explain", username="carol")
    assert answer.status_code == 400
    assert "teamspace, model should be given: ?username=" in answer.json()["errors"][0]["message"]


def test_lines_for_a_terminal(own: Served, chat: Connect) -> None:
    chat(own.url, cookie=User(own).log_in("carol").cookie).join(ROOM)
    rooms = ask(own, "rooms", accept="text/plain")
    assert rooms.headers["Content-Type"].startswith("text/plain")
    first, room, member = rooms.text.splitlines()
    assert first.startswith("process ")
    assert first.endswith("for itself alone")
    assert room == f"model teamspace=acme project={TOWER} model={STRUCTURE}: 1"
    assert member.startswith("  carol  websocket, Engine.IO 4, since ")
    query = {"username": "a\x1b[2Jb", "teamspace": "acme", "model": STRUCTURE}
    text = ask(own, "explain", accept="text/plain", **query).text
    assert "NO  connected: no connection here is a?[2Jb's" in text
    assert "\x1b" not in text
