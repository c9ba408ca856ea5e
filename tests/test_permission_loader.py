"""`notify.permission_loader`: rights of a host's own, on an app that has no MongoDB at all."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.support.chat import ChatClient
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, forked
from tests.support.until import until

PROJECT = "0d9f3b0e-3c1c-4e0b-9d5e-6f1f6a0c7b11"
MODEL = {"teamspace": "acme", "project": PROJECT, "model": "m1"}
QUESTIONS: tuple[tuple[dict[str, Any], tuple[str | None, ...]], ...] = (
    (MODEL, ("acme", PROJECT, "m1")),
    ({"teamspace": "acme", "project": PROJECT}, ("acme", PROJECT, None)),
)
QUESTIONS_V4: tuple[tuple[dict[str, Any], tuple[str | None, ...]], ...] = (
    ({"account": "acme", "model": "m1"}, ("acme", None, "m1")),
    ({"account": "acme"}, ("acme", None, None)),
)


@pytest.fixture
def app() -> Iterator[Served]:
    config = {
        "REPO_NOTIFY_MONGO_URI": f"mongodb://127.0.0.1:{free_port()}",
        "REPO_NOTIFY_LEGACY_V4": importlib.util.find_spec("legacy_v4") is not None,
        "REPO_NOTIFY_PERMISSION_CACHE_SECONDS": 0,
        "REPO_NOTIFY_RECHECK_SECONDS": 0.2,
    }
    with forked("tests.support.own_rights", json.dumps(config)) as served:
        yield served


@pytest.fixture
def uma(app: Served, chat: Callable[..., ChatClient]) -> ChatClient:
    return chat(app.url, cookie=User(app).log_in("uma").cookie)


def grant(app: Served, *rights: tuple[str | None, ...], **more: Any) -> None:
    requests.post(app.url + "/rights", json={"granted": rights, **more}, timeout=SECONDS).raise_for_status()


def asked(app: Served) -> list[list[str | None]]:
    found: list[list[str | None]] = requests.get(app.url + "/rights", timeout=SECONDS).json()
    return found


@pytest.mark.parametrize(("room", "question"), QUESTIONS, ids=["model", "project"])
def test_the_loader_decides(
    app: Served, uma: ChatClient, room: dict[str, Any], question: tuple[str | None, ...]
) -> None:
    assert uma.ask("join", room)["code"] == "ROOM_NOT_FOUND"
    assert ["uma", *question] in asked(app)
    grant(app, ("uma", *question))
    assert uma.ask("join", room)["event"] == "success"


@pytest.mark.parametrize(("room", "question"), QUESTIONS_V4, ids=["model", "teamspace"])
def test_the_loader_decides_for_v4(
    app: Served, uma: ChatClient, room: dict[str, Any], question: tuple[str | None, ...]
) -> None:
    pytest.importorskip("legacy_v4")
    assert uma.ask("join", room)["code"] in {"ROOM_NOT_FOUND", "UNAUTHORISED"}
    grant(app, ("uma", *question))
    assert uma.ask("join", room)["event"] == "success"


def test_the_loader_gets_uuids_in_lower_case(app: Served, uma: ChatClient) -> None:
    grant(app, ("uma", "acme", PROJECT, "m1"))
    assert uma.ask("join", {**MODEL, "project": PROJECT.upper()})["event"] == "success"


def test_the_name_of_a_teamspace_is_no_right(app: Served, chat: Callable[..., ChatClient]) -> None:
    acme = chat(app.url, cookie=User(app).log_in("acme").cookie)
    assert acme.ask("join", {"teamspace": "acme", "project": PROJECT})["message"] == "Project not found"


def test_members_hear_of_changes_and_one_who_loses_the_right_is_removed(app: Served, uma: ChatClient) -> None:
    grant(app, ("uma", "acme", PROJECT, "m1"))
    uma.join(MODEL)
    User(app).publish("TicketUpdated", **MODEL, kind="container", data={"_id": "t"})
    assert uma.hear_event("containerUpdateTicket") == {**MODEL, "data": {"_id": "t"}}
    grant(app)
    assert uma.hear_event("error")["message"] == "Model not found"


@pytest.mark.parametrize("wrong", [{"fails": True}, {"answer": "yes"}, {"answer": None}, {"answer": 1}])
def test_a_loader_that_raises_or_answers_neither_true_nor_false_lets_nobody_in(
    app: Served, uma: ChatClient, wrong: dict[str, Any]
) -> None:
    grant(app, ("uma", "acme", PROJECT, "m1"), **wrong)
    assert uma.ask("join", MODEL)["code"] == "SERVICE_UNAVAILABLE"


def test_while_the_rights_cannot_be_read_nobody_is_removed(app: Served, uma: ChatClient) -> None:
    right = ("uma", "acme", PROJECT, "m1")
    grant(app, right)
    uma.join(MODEL)
    grant(app, right, fails=True)
    seen = len(asked(app))
    until(lambda: len(asked(app)) >= seen + 3)
    User(app).publish("TicketUpdated", **MODEL, kind="container", data={"_id": "t"})
    assert uma.hear_event("containerUpdateTicket") == {**MODEL, "data": {"_id": "t"}}


def test_an_app_with_rights_of_its_own_needs_no_mongodb_to_be_ready(app: Served) -> None:
    answer = requests.get(app.url + "/notify/readyz", timeout=SECONDS)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
