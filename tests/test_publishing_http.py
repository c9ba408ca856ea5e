"""`POST /notify/events`: what is taken, what is refused and how it is said (spec section 5)."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import host_defaults
from tests.support.chat import ChatClient
from tests.support.served import SECONDS, Served, User, host_app

KEY = "a key of the tests'"
LIMIT = 300_000
ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
EVENT: dict[str, Any] = {"type": "TicketUpdated", **ROOM, "kind": "container", "data": {"_id": "t"}}
JSON = "application/json"


@pytest.fixture(scope="module", params=[False, True], ids=["direct", "through Flask"])
def server(request: pytest.FixtureRequest, sample: str) -> Iterator[Served]:
    keys = {"REPO_NOTIFY_API_KEY": KEY, "REPO_NOTIFY_MAX_EVENT_BYTES": LIMIT, "HOOK": request.param}
    with host_app({**host_defaults(sample), **keys}) as served:
        yield served


def post(server: Served, body: Any, *, key: str | None = KEY, content_type: str = JSON) -> requests.Response:
    raw = body if isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body).encode()
    headers = {"Content-Type": content_type, **({"Authorization": f"Bearer {key}"} if key is not None else {})}
    return requests.post(server.url + "/notify/events", data=raw, headers=headers, timeout=SECONDS)


def test_one_event(server: Served, member: ChatClient) -> None:
    answer = post(server, EVENT)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    assert member.hear_event("containerUpdateTicket") == {**ROOM, "data": {"_id": "t"}}


@pytest.mark.parametrize("project", ["5e" * 12, "5E" * 12])
def test_a_project_of_2018_may_be_published_though_no_v5_room_exists_for_it(
    server: Served, member: ChatClient, project: str
) -> None:
    assert post(server, {**EVENT, "project": project}).json() == {"accepted": 1}
    assert member.ask("join", {"teamspace": "acme", "project": project})["message"] == "Project not found"
    member.heard_so_far()


def test_a_thousand_arrive_in_order(server: Served, member: ChatClient) -> None:
    answer = post(server, [{**EVENT, "data": {"n": n}} for n in range(1_000)])
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1_000})
    heard = [member.hear_event("containerUpdateTicket")["data"]["n"] for _ in range(1_000)]
    assert heard == list(range(1_000))


def test_an_empty_array_is_no_mistake(server: Served) -> None:
    assert post(server, []).json() == {"accepted": 0}


def test_more_than_a_thousand_are_too_many(server: Served) -> None:
    answer = post(server, [EVENT] * 1_001)
    assert answer.status_code == 413
    assert "1000" in answer.json()["errors"][0]["message"]


def test_nothing_of_a_bad_array_is_published_and_each_mistake_is_told(server: Served, member: ChatClient) -> None:
    answer = post(server, [EVENT, {**EVENT, "kind": "house"}, EVENT, {**EVENT, "more": 1}])
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "errors": [
                {"index": 1, "fields": {"kind": "one of container, federation"}},
                {"index": 3, "fields": {"more": "no such field"}},
            ]
        },
    )
    assert member.heard_so_far() == []


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"type": None}, ["type"]),
        ({"type": "Nothing"}, ["type"]),
        ({"type": {"$gt": ""}}, ["type"]),
        ({"type": "_ModelEvent"}, ["type"]),
        ({"teamspace": ""}, ["teamspace"]),
        ({"teamspace": 3, "model": ["x"]}, ["teamspace", "model"]),
        ({"project": {"$ne": 1}}, ["project"]),
        ({"project": "tower"}, ["project"]),
        ({"project": TOWER.replace("-", "")}, ["project"]),
        ({"project": f"{{{TOWER}}}"}, ["project"]),
        ({"project": "5e" * 11}, ["project"]),
        ({"project": "5e" * 12 + "\n"}, ["project"]),
        ({"data": None}, ["data"]),
        ({"data": []}, ["data"]),
        ({"emitter": 3}, ["emitter"]),
        ({"issues": []}, ["issues"]),
        ({"type": "ModelCreated"}, ["model"]),
        ({"type": "TicketCommentCreated"}, ["data"]),
        ({"type": "RevisionUpdated", "kind": "federation"}, ["kind"]),
        ({"type": "SessionsEnded"}, ["data", "kind", "model", "project", "reason", "session_ids", "teamspace"]),
    ],
)
def test_wrong_fields_are_named(server: Served, change: dict[str, Any], fields: list[str]) -> None:
    answer = post(server, {**EVENT, **change})
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert error["index"] == 0
    assert sorted(error["fields"]) == sorted(fields)
    assert all(text and isinstance(text, str) for text in error["fields"].values())


@pytest.mark.parametrize("missing", ["type", "teamspace", "project", "model", "kind", "data"])
def test_missing_fields_are_named(server: Served, missing: str) -> None:
    answer = post(server, {key: value for key, value in EVENT.items() if key != missing})
    assert answer.status_code == 400
    assert list(answer.json()["errors"][0]["fields"]) == [missing]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000, b"nothing", b'{"a": 1}{'])
def test_what_is_no_json(server: Served, body: bytes) -> None:
    answer = post(server, body)
    assert answer.status_code == 400
    assert "a JSON document" in answer.json()["errors"][0]["fields"][""]


@pytest.mark.parametrize("body", [b"null", b"3", b'"x"', b"[3]", b"[[]]", b"NaN", b"true"])
def test_json_that_is_no_event(server: Served, body: bytes) -> None:
    answer = post(server, body)
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"index": 0, "fields": {"": "an object with `type` and the fields of that type"}}
    ]


@pytest.mark.parametrize("data", [b'{"n": NaN}', b'{"n": -Infinity}', b'{"a":' * 250 + b"1" + b"}" * 250])
def test_data_that_cannot_be_sent(server: Served, data: bytes) -> None:
    answer = post(server, json.dumps(EVENT).encode().replace(b'{"_id": "t"}', data))
    assert answer.status_code == 400
    assert list(answer.json()["errors"][0]["fields"]) == ["data"]


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {KEY}", KEY, "Bearer \xe9"]
)
def test_without_the_key(server: Served, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    answer = requests.post(server.url + "/notify/events", json=EVENT, headers=headers, timeout=SECONDS)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "REPO_NOTIFY_API_KEY" in answer.json()["errors"][0]["message"]


def test_the_word_bearer_in_any_case(server: Served) -> None:
    headers = {"Authorization": f"bearer  {KEY}"}
    assert requests.post(server.url + "/notify/events", json=EVENT, headers=headers, timeout=SECONDS).status_code == 202


def test_while_no_key_is_set(host: Served) -> None:
    for key in (None, "", "None"):
        answer = post(host, EVENT, key=key)
        assert answer.status_code == 404
        assert "REPO_NOTIFY_API_KEY" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    "content_type", [JSON, f"{JSON}; charset=utf-8", "text/plain", "", "application/x-www-form-urlencoded"]
)
def test_the_content_type_does_not_matter(server: Served, content_type: str) -> None:
    assert post(server, EVENT, content_type=content_type).status_code == 202


def test_a_get_is_not_allowed(server: Served) -> None:
    assert requests.get(server.url + "/notify/events", timeout=SECONDS).status_code == 405


def test_a_body_over_the_limit(server: Served) -> None:
    answer = post(server, {**EVENT, "data": {"_id": "x" * LIMIT}})
    assert answer.status_code == 413
    assert str(LIMIT) in answer.json()["errors"][0]["message"]


def test_a_body_at_the_limit(server: Served) -> None:
    body = json.dumps(EVENT).encode()
    assert post(server, body + b" " * (LIMIT - len(body))).status_code == 202
    assert post(server, body + b" " * (LIMIT + 1 - len(body))).status_code == 413


def test_a_length_over_the_limit_is_refused_before_the_body_is_sent(server: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.putrequest("POST", "/notify/events")
    connection.putheader("Authorization", f"Bearer {KEY}")
    connection.putheader("Content-Length", "1000000000")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_chunked(server: Served, member: ChatClient) -> None:
    body = json.dumps(EVENT).encode()
    answer = post(server, iter([body[:10], body[10:11], body[11:]]))
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    assert member.hear_event("containerUpdateTicket") == {**ROOM, "data": {"_id": "t"}}


def test_chunked_without_an_end_is_cut_at_the_limit(server: Served) -> None:
    chunk = b"%x\r\n%b\r\n" % (LIMIT + 10, b" " * (LIMIT + 10))
    head = (
        f"POST /notify/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as raw:
        raw.sendall(head.encode() + chunk)
        assert raw.recv(100).split(b" ", 2)[1] == b"413"


def test_the_emitter_does_not_hear_it(server: Served, member: ChatClient, chat: Callable[..., ChatClient]) -> None:
    other = chat(server.url, cookie=User(server).log_in("alice").cookie)
    other.join(ROOM)
    post(server, [{**EVENT, "emitter": member.id}, {**EVENT, "emitter": None}, {**EVENT, "emitter": "nobody's"}])
    assert [name for name, _ in other.heard_so_far()] == ["containerUpdateTicket"] * 3
    assert [name for name, _ in member.heard_so_far()] == ["containerUpdateTicket"] * 2


def test_a_session_ended_over_http(server: Served, chat: Callable[..., ChatClient]) -> None:
    user = User(server).log_in("carol")
    client = chat(server.url, cookie=user.cookie)
    client.join(ROOM)
    session_id = user.http.get(server.url + "/session", timeout=SECONDS).json()["session_id"]
    answer = post(server, {"type": "SessionsEnded", "session_ids": [session_id], "reason": "because"})
    assert answer.status_code == 202
    assert client.hear_event("loggedOut") == {"reason": "because"}
    post(server, EVENT)
    assert client.heard_so_far() == []
