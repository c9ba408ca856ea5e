"""Many rooms of one teamspace joined in one go cost few queries, whatever is among them (spec section 3)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
import requests

from repo_notify.access.permissions import REFUSAL_SECONDS
from repo_notify.membership.recovery import FRESH_SECONDS
from tests.conftest import ENGINES
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.raw import RawSocket
from tests.support.returning import Returning
from tests.support.served import SECONDS, Served, User
from tests.support.teamspaces import Teamspace
from tests.support.until import until

Json = Any
Make = Callable[..., Teamspace]
Serve = Callable[..., Served]
ROOMS = 500
AWAY = 30
MOST_QUERIES = 20
BRIEF = {"REPO_NOTIFY_SHUTDOWN_TIMEOUT": 0.2}
UNAVAILABLE = "SERVICE_UNAVAILABLE"


@pytest.fixture
def database(sample: str) -> Iterator[MongoProxy]:
    # No change streams: whatever is read is read by joins and sweeps.
    with MongoProxy(sample, streams=False) as proxy:
        yield proxy


@pytest.fixture
def connect() -> Iterator[Callable[..., RawSocket]]:
    with ExitStack() as stack:

        def make(served: Served, user: str) -> RawSocket:
            return stack.enter_context(RawSocket.connect(served.url, User(served).log_in(user).cookie))

        yield make


def models_of(teamspace: Teamspace, number: int = ROOMS, **document: Any) -> list[str]:
    models = [str(uuid4()) for _ in range(number)]
    teamspace.mongo[teamspace.name]["settings"].insert_many([{"_id": model, **document} for model in models])
    return models


def readable_by(user: str) -> dict[str, Any]:
    return {"permissions": [{"user": user, "permission": "viewer"}]}


def answers_of(client: RawSocket, number: int) -> list[Json]:
    """The next answers; v4's own replies, which stand before them, are left out."""
    answers: list[Json] = []
    while len(answers) < number:
        event, data = json.loads(client.receive()[2:])
        if event in ("message", "error"):
            answers.append(data)
    return answers


def ask_all(client: RawSocket, rooms: list[Json]) -> None:
    for room in rooms:
        client.send("42" + json.dumps(["join", room]))


def in_one_go(client: RawSocket, rooms: list[Json]) -> list[Json]:
    """Join the rooms, all asked for before the first answer is read; the answers, which stand in the order asked."""
    ask_all(client, rooms)
    answers = answers_of(client, len(rooms))
    repeated = [answer.get("data") or answer["details"] for answer in answers]
    assert [echo["data"] for echo in repeated] == rooms
    return answers


def outcomes(answers: list[Json]) -> list[str]:
    return [answer.get("event") or answer["code"] for answer in answers]


def in_models(teamspace: Teamspace, project: str, models: list[str]) -> list[Json]:
    return [{"teamspace": teamspace.name, "project": project, "model": model} for model in models]


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("user", ["reader", "uma", "stranger"])
def test_many_models_of_one_teamspace_cost_few_queries(
    serve_host: Serve,
    connect: Callable[..., RawSocket],
    database: MongoProxy,
    teamspaces: Make,
    engine: dict[str, Any],
    user: str,
) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, **readable_by("reader"))
    project = teamspace.project(models)
    teamspace.admins("uma")
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BRIEF, **engine)
    client = connect(served, user)
    began = monotonic()
    answers = in_one_go(client, in_models(teamspace, project, models))
    # A refusal is believed for half a second: a busy machine takes several of them, and asks as often again.
    times = 1 + int((monotonic() - began) / REFUSAL_SECONDS) if user == "stranger" else 1
    assert set(outcomes(answers)) == {"ROOM_NOT_FOUND" if user == "stranger" else "success"}
    assert database.finds.total() <= MOST_QUERIES * times, (database.finds, times)


def test_many_projects_of_one_teamspace_cost_few_queries(
    serve_host: Serve, connect: Callable[..., RawSocket], database: MongoProxy, teamspaces: Make
) -> None:
    teamspace = teamspaces()
    # The older subtype is among them.
    projects = [teamspace.project(admins=["uma"], subtype=3 + number % 2) for number in range(ROOMS)]
    other = teamspace.project(admins=["somebody"])
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BRIEF)
    rooms = [{"teamspace": teamspace.name, "project": project} for project in [*projects, other]]
    answers = in_one_go(connect(served, "uma"), rooms)
    assert outcomes(answers) == ["success"] * ROOMS + ["ROOM_NOT_FOUND"]
    assert database.finds.total() <= MOST_QUERIES, database.finds


def test_those_who_poll_have_it_too(serve_host: Serve, database: MongoProxy, teamspaces: Make) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, **readable_by("reader"))
    rooms = in_models(teamspace, teamspace.project(models), models)
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BRIEF)
    url = served.url + "/chat/?EIO=4&transport=polling"
    headers = {"Cookie": User(served).log_in("reader").cookie}
    with requests.Session() as http:
        http.headers.update(headers)
        sid = json.loads(http.get(url, timeout=SECONDS).text[1:])["sid"]
        url += f"&sid={sid}"
        http.post(url, data="40", timeout=SECONDS)
        assert http.get(url, timeout=SECONDS).text.startswith("40")
        packets = ["42" + json.dumps(["join", room]) for room in rooms]
        http.post(url, data="\x1e".join(packets), timeout=SECONDS)
        answered = 0
        while answered < ROOMS:
            answered += http.get(url, timeout=SECONDS).text.count('"event":"success"')
    assert database.finds.total() <= MOST_QUERIES, database.finds


def test_each_is_answered_for_itself(
    serve_host: Serve, connect: Callable[..., RawSocket], database: MongoProxy, teamspaces: Make
) -> None:
    pytest.importorskip("legacy_v4")
    teamspace = teamspaces()
    own, foreign = models_of(teamspace, 40, **readable_by("reader")), models_of(teamspace, 40)
    ledger = teamspace.model({"reader": "viewer"}, _id="a model of older data")
    upper = teamspace.model({"reader": "viewer"}, _id=str(uuid4()).upper())
    homeless = teamspace.model({"reader": "viewer"})
    project, other = teamspace.project([*own, *foreign, ledger, upper.lower(), upper]), teamspace.project(own[:1])
    shared = teamspace.project(admins=["reader"])
    # One model, where a list should be.
    odd = teamspace.model({"reader": "viewer"})
    teamspace.put("projects", _id="odd", models=odd)
    expected: list[tuple[Json, str]] = []
    for mine, not_mine in zip(own, foreign, strict=True):
        expected += [(room, "success") for room in in_models(teamspace, project, [mine])]
        expected += [(room, "ROOM_NOT_FOUND") for room in in_models(teamspace, project, [not_mine, str(uuid4())])]
        expected += [({"account": teamspace.name, "model": mine}, "success")]
        expected += [({"account": teamspace.name, "model": not_mine}, "ROOM_NOT_FOUND")]
    expected += [(room, "success") for room in in_models(teamspace, project, [ledger, upper, upper.lower()])]
    expected += [(room, "success") for room in in_models(teamspace, other, own[:1])]
    expected += [(room, "ROOM_NOT_FOUND") for room in in_models(teamspace, other, [own[1], homeless])]
    expected += [({"account": teamspace.name, "model": odd}, "success")]
    expected += [({"account": teamspace.name, "model": homeless}, "ROOM_NOT_FOUND")]
    expected += [({"account": teamspace.name}, "UNAUTHORISED"), ({"notifications": True}, "success")]
    expected += [({"teamspace": teamspace.name, "project": shared}, "success"), ({"room": 1}, "ROOM_NOT_FOUND")]
    expected += [({"teamspace": teamspace.name, "project": project}, "ROOM_NOT_FOUND")]
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BRIEF)
    answers = in_one_go(connect(served, "reader"), [room for room, _ in expected])
    assert outcomes(answers) == [outcome for _, outcome in expected]
    assert database.finds.total() <= MOST_QUERIES, database.finds


def test_a_document_that_cannot_be_read_refuses_itself_alone(
    serve_host: Serve, connect: Callable[..., RawSocket], database: MongoProxy, teamspaces: Make
) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, 60, **readable_by("reader"))
    broken = teamspace.model({"reader": "viewer", "xxbroken": "viewer"})
    rooms = in_models(teamspace, teamspace.project([*models, broken]), [*models[:30], broken, *models[30:]])
    database.garbled.add(b"xxbroken")
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BRIEF)
    client = connect(served, "reader")
    assert outcomes(in_one_go(client, rooms)) == ["success"] * 30 + [UNAVAILABLE] + ["success"] * 30
    assert metric(served, "repo_notify_permission_errors_total") >= 1
    database.garbled.clear()
    assert outcomes(in_one_go(client, rooms)) == ["success"] * 61


def test_a_silent_database_refuses_all_and_is_asked_again(
    serve_host: Serve, connect: Callable[..., RawSocket], database: MongoProxy, teamspaces: Make
) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, 100, **readable_by("reader"))
    rooms = in_models(teamspace, teamspace.project(models), models)
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, REPO_NOTIFY_PERMISSION_TIMEOUT=0.5, **BRIEF)
    client = connect(served, "reader")
    database.hold(teamspace.name)
    assert set(outcomes(in_one_go(client, rooms))) == {UNAVAILABLE}
    database.release()
    while UNAVAILABLE in outcomes(in_one_go(client, rooms)):
        pass  # refused at once for a moment, then each question waits for the driver's new connection
    assert set(outcomes(in_one_go(client, rooms))) == {"success"}


def test_an_answer_counts_that_came_while_the_service_was_busy(
    serve_host: Serve, connect: Callable[..., RawSocket], database: MongoProxy, teamspaces: Make
) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, 20, **readable_by("reader"))
    rooms = in_models(teamspace, teamspace.project(models), models)
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, REPO_NOTIFY_PERMISSION_TIMEOUT=1.0, **BRIEF)
    client = connect(served, "reader")
    database.hold(teamspace.name)
    ask_all(client, rooms)
    assert database.asked.wait(SECONDS)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(requests.get, served.url + "/busy?seconds=2", timeout=SECONDS)
        # Not before it has begun.
        threading.Event().wait(0.2)
        database.release()
        assert set(outcomes(answers_of(client, len(rooms)))) == {"success"}
        busy.result().raise_for_status()


def test_what_is_told_as_changed_meanwhile_is_read_anew(
    serve_host: Serve,
    connect: Callable[..., RawSocket],
    chat: Callable[..., ChatClient],
    database: MongoProxy,
    teamspaces: Make,
) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, 100, **readable_by("reader"))
    rooms = in_models(teamspace, teamspace.project(models), models)
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, REPO_NOTIFY_PERMISSION_CACHE_SECONDS=60, **BRIEF)
    client = connect(served, "reader")
    database.hold(teamspace.name)
    ask_all(client, rooms)
    assert database.asked.wait(SECONDS)
    teamspace.mongo[teamspace.name]["settings"].update_many({}, {"$set": {"permissions": []}})
    database.release()
    answers = answers_of(client, len(rooms))
    assert "ROOM_NOT_FOUND" in outcomes(answers)
    assert outcomes(in_one_go(client, rooms)) == ["ROOM_NOT_FOUND"] * 100


def test_a_cache_of_nothing_is_asked_as_before(
    serve_host: Serve, connect: Callable[..., RawSocket], database: MongoProxy, teamspaces: Make
) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, 50, **readable_by("reader"))
    rooms = in_models(teamspace, teamspace.project(models), models)
    settings = {"REPO_NOTIFY_PERMISSION_CACHE_SECONDS": 0, "REPO_NOTIFY_PERMISSION_CACHE_SIZE": 3}
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **settings, **BRIEF)
    assert set(outcomes(in_one_go(connect(served, "reader"), rooms))) == {"success"}
    # The service itself has asked once or twice whether it may read.
    assert 50 <= database.finds["settings"] == database.finds["projects"] <= 53


def test_a_small_cache_is_enough(
    serve_host: Serve, connect: Callable[..., RawSocket], database: MongoProxy, teamspaces: Make
) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, 50, **readable_by("reader"))
    rooms = in_models(teamspace, teamspace.project(models), models)
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, REPO_NOTIFY_PERMISSION_CACHE_SIZE=3, **BRIEF)
    assert set(outcomes(in_one_go(connect(served, "reader"), rooms))) == {"success"}


def test_a_sweep_costs_few_queries_and_misses_nobody(
    serve_host: Serve, connect: Callable[..., RawSocket], database: MongoProxy, teamspaces: Make
) -> None:
    teamspace, other = teamspaces(), teamspaces()
    rooms = []
    for place in (teamspace, other):
        models = models_of(place, 150, **readable_by("reader"))
        rooms += in_models(place, place.project(models), models)
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, REPO_NOTIFY_RECHECK_SECONDS=1, **BRIEF)
    client = connect(served, "reader")
    assert set(outcomes(in_one_go(client, rooms))) == {"success"}

    def swept() -> float:
        return metric(served, "repo_notify_revalidations_total", cause="sweep", outcome="kept")

    before = swept()
    until(lambda: swept() >= before + 2 * len(rooms))
    sweeps = (swept() - before) / len(rooms)
    assert database.finds.total() <= MOST_QUERIES * (sweeps + 2), database.finds
    lost = {room["model"] for room in rooms[::7]}
    for place in (teamspace, other):
        wanted = {"_id": {"$in": sorted(lost)}}
        place.mongo[place.name]["settings"].update_many(wanted, {"$set": {"permissions": []}})
    assert {answer["details"]["data"]["model"] for answer in answers_of(client, len(lost))} == lost


def test_those_who_come_back_have_their_rights_read_together(
    serve_host: Serve, database: MongoProxy, teamspaces: Make
) -> None:
    teamspace = teamspaces()
    models = models_of(teamspace, AWAY, **readable_by("reader"))
    rooms = in_models(teamspace, teamspace.project(models), models)
    served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **BRIEF)
    cookie = User(served).log_in("reader").cookie
    clients = [Returning(served.url, cookie).connect() for _ in rooms]
    for client, room in zip(clients, rooms, strict=True):
        client.join(room)
    joined = monotonic()
    for client in clients:
        client.drop()
    until(lambda: metric(served, "repo_notify_lost_clients") == AWAY)
    # What was read for the joins is too old by then.
    until(lambda: monotonic() > joined + FRESH_SECONDS)
    database.finds.clear()
    began = monotonic()
    for client in clients:
        assert client.connect().recovered
    # Those who are still away have a list read again when it has half of the age that is too old.
    times = 1 + int((monotonic() - began) / (FRESH_SECONDS / 2))
    assert database.finds["settings"] <= times, (database.finds, times)
    for client in clients:
        client.close()
