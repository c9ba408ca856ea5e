"""spec section 6: every form of the documents, how few queries they cost, and rights that come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from bson import Binary, ObjectId

from tests.conftest import UNHURRIED, host_defaults
from tests.support.audience import Place
from tests.support.chat import ChatClient
from tests.support.mongo_proxy import MongoProxy
from tests.support.people import People
from tests.support.served import Served, User, host_app
from tests.support.teamspaces import Teamspace, binary

Json = Any
Make = Callable[..., Teamspace]
PROJECT = "0d9f3b0e-3c1c-4e0b-9d5e-6f1f6a0c7b11"
MODEL = "808d98ee-aad1-11ec-b909-0242ac120002"
WRONG_TYPES: tuple[Json, ...] = (None, "uma", 5, True, {}, {"user": "uma"}, [None, 5, "uma", ["uma"]])
WRONG_MODELS: tuple[Json, ...] = (None, 5, {}, [MODEL.encode()], [[MODEL]])


@pytest.fixture(scope="module")
def people(sample: str) -> Iterator[People]:
    """On our own engine alone: who serves the socket has no part in it."""
    with host_app({**host_defaults(sample), **UNHURRIED}) as served, closing(People(served)) as found:
        yield found


def may(user: str, permission: Json = "viewer") -> Json:
    return [{"user": user, "permission": permission}]


def has(user: str, *permissions: Json) -> Json:
    return [{"user": user, "permissions": list(permissions)}]


@dataclass(frozen=True)
class Form:
    """Documents of a teamspace, and what `uma` may enter then; a collection that is not named is empty."""

    says: str
    model: bool
    project: bool
    settings: Json = field(default_factory=dict)
    projects: Json = field(default_factory=dict)
    teamspace: Json = None
    account: Json = None


FORMS = (
    *(Form(f"model permission {name}", True, False, settings={"permissions": may("uma", name)})
      for name in ("viewer", "commenter", "collaborator")),
    *(Form(f"model permission {name!r}", False, False, settings={"permissions": may("uma", name)})
      for name in ("unassigned", "", "Viewer", "admin_project", None, 5, ["viewer"], {"$ne": 1})),
    Form("somebody else's", False, False, settings={"permissions": may("una")}),
    Form("the second entry of a user", True, False, settings={"permissions": may("uma", "none") + may("uma")}),
    Form("federation", True, False, settings={"permissions": may("uma"), "federate": True}),
    Form("drawing", True, False, settings={"permissions": may("uma"), "modelType": "drawing"}),
    Form("project admin", True, True, projects={"permissions": has("uma", "admin_project")}),
    Form("project admin, subtype 3", True, True,
         projects={"_id": binary(PROJECT, 3), "permissions": has("uma", "other", "admin_project")}),
    Form("view_model_all_models", True, False, projects={"permissions": has("uma", "view_model_all_models")}),
    Form("another project permission", False, False, projects={"permissions": has("uma", "create_model")}),
    Form("teamspace admin", True, True, teamspace={"permissions": has("uma", "teamspace_admin")}),
    Form("another teamspace permission", False, False, teamspace={"permissions": has("uma", "assign_licence")}),
    Form("teamspace admin of older data", True, True, account={"permissions": has("uma", "teamspace_admin")}),
    Form("older data of another permission", False, False, account={"permissions": has("uma", "view_projects")}),
    Form("template with view_model", True, False, settings={"permissions": may("uma", "reader")},
         account={"permissionTemplates": [{"_id": "reader", "permissions": ["view_issue", "view_model"]}]}),
    Form("template without view_model", False, False, settings={"permissions": may("uma", "reader")},
         account={"permissionTemplates": [{"_id": "reader", "permissions": ["view_issue"]}]}),
    Form("template that is not there", False, False, settings={"permissions": may("uma", "reader")},
         account={"permissionTemplates": [{"_id": "other", "permissions": ["view_model"]}]}),
    *(Form(f"templates are {wrong!r}", False, False, settings={"permissions": may("uma", "reader")},
           account={"permissionTemplates": wrong})
      for wrong in (*WRONG_TYPES, [{"_id": "reader"}], [{"permissions": 1}])),
    Form("templates of wrong permissions", False, False, settings={"permissions": may("uma", "reader")},
         account={"permissionTemplates": [{"_id": "reader", "permissions": "view_model"}]}),
    Form("nothing but ids", False, False),
    *(Form(f"model permissions are {wrong!r}", False, False, settings={"permissions": wrong}) for wrong in WRONG_TYPES),
    *(Form(f"project permissions are {wrong!r}", False, False, projects={"permissions": wrong})
      for wrong in WRONG_TYPES),
    *(Form(f"teamspace permissions are {wrong!r}", False, False, teamspace={"permissions": wrong})
      for wrong in WRONG_TYPES),
    *(Form(f"account is {wrong!r}", False, False, account=wrong) for wrong in WRONG_TYPES),
    *(Form(f"account permissions are {wrong!r}", False, False, account={"permissions": wrong})
      for wrong in WRONG_TYPES),
    Form("permissions of a project as text", False, False,
         projects={"permissions": [{"user": "uma", "permissions": "admin_project"}]}),
    Form("one broken entry beside a good one", True, True,
         projects={"permissions": [None, {"user": 5}, {"permissions": []}, *has("uma", "admin_project")]}),
    Form("model in no project", False, True,
         settings={"permissions": may("uma")}, projects={"models": [], "permissions": has("uma", "admin_project")}),
    *(Form(f"models of the project are {wrong!r}", False, True,
           settings={"permissions": may("uma")}, projects={"models": wrong, "permissions": has("uma", "admin_project")})
      for wrong in WRONG_MODELS),
    Form("model without settings", False, True, settings=None, projects={"permissions": has("uma", "admin_project")}),
    Form("no project", False, False, settings={"permissions": may("uma")}, projects=None),
    Form("no project, teamspace admin", False, False,
         projects=None, teamspace={"permissions": has("uma", "teamspace_admin")}),
    Form("project of another id", False, False, settings={"permissions": may("uma")},
         projects={"_id": binary(str(UUID(int=1)), 4), "permissions": has("uma", "admin_project")}),
    Form("project of a text id", False, False, settings={"permissions": may("uma")},
         projects={"_id": PROJECT, "permissions": has("uma", "admin_project")}),
    Form("project of a binary id that is no UUID", False, False, settings={"permissions": may("uma")},
         projects={"_id": Binary(b"1", 0), "permissions": has("uma", "admin_project")}),
    Form("project with an ObjectId", False, False, settings={"permissions": may("uma")},
         projects={"_id": ObjectId(), "permissions": has("uma", "admin_project")}),
)


def build(teamspace: Teamspace, form: Form) -> Teamspace:
    if form.settings is not None:
        teamspace.put("settings", **{"_id": MODEL, **form.settings})
    if form.projects is not None:
        teamspace.put("projects", **{"_id": binary(PROJECT), "models": [MODEL], **form.projects})
    if form.teamspace is not None:
        teamspace.put("teamspace", _id=teamspace.name, **form.teamspace)
    if form.account is not None:
        teamspace.account(form.account)
    return teamspace


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.says)
def test_a_form_of_the_documents_opens_what_it_should(people: People, teamspaces: Make, form: Form) -> None:
    name = build(teamspaces(), form).name
    client = people.client("uma")
    model = client.ask("join", {"teamspace": name, "project": PROJECT, "model": MODEL})
    project = client.ask("join", {"teamspace": name, "project": PROJECT})
    assert (model.get("event"), project.get("event")) == tuple(
        "success" if opened else None for opened in (form.model, form.project)
    )
    assert model.get("message") == (None if form.model else "Model not found")
    assert project.get("message") == (None if form.project else "Project not found")


@pytest.mark.parametrize("_id", ["structure", "Structure", "a::b", "$gt", "ü.x", "x" * 900, MODEL.upper()])
def test_a_models_id_may_be_any_string(people: People, teamspaces: Make, _id: str) -> None:
    teamspace = teamspaces()
    teamspace.model({"uma": "viewer"}, _id=_id)
    project = teamspace.project([_id])
    room = {"teamspace": teamspace.name, "project": project, "model": _id}
    client = people.client("uma")
    assert client.ask("join", room)["event"] == "success"
    other = _id.swapcase() if _id != MODEL.upper() else "x"
    if other != _id:
        assert client.ask("join", {**room, "model": other})["message"] == "Model not found"


def test_a_model_that_two_projects_hold_is_found_in_each(people: People, teamspaces: Make) -> None:
    teamspace = teamspaces()
    model = teamspace.model()
    mine, other = teamspace.project([model], admins=["uma"], subtype=3), teamspace.project([model])
    client = people.client("uma")
    rooms = [{"teamspace": teamspace.name, "project": project, "model": model} for project in (mine, other)]
    assert [client.ask("join", room).get("event") for room in rooms] == ["success", None]


def test_the_account_is_admin_of_the_teamspace_of_its_name(people: People, teamspaces: Make) -> None:
    place = Place(teamspaces())
    with closing(people.connect(place.name)) as client:
        assert client.ask("join", place.in_model)["event"] == "success"
        assert client.ask("join", place.in_project)["event"] == "success"


JOINERS = 60


def test_many_users_who_join_one_model_at_once_cost_a_handful_of_queries(
    sample: str, serve_host: Callable[..., Served], teamspaces: Make
) -> None:
    teamspace = teamspaces()
    users = [f"user{n}" for n in range(JOINERS)]
    model = teamspace.model(dict.fromkeys(users[::2], "viewer"))
    room = {"teamspace": teamspace.name, "project": teamspace.project([model]), "model": model}
    with MongoProxy(sample) as database, ExitStack() as stack:
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2)
        clients = [
            stack.enter_context(closing(ChatClient(served.url, cookie=User(served).log_in(user).cookie)))
            for user in users
        ]
        with ThreadPoolExecutor(JOINERS) as pool:
            replies = list(pool.map(lambda client: client.ask("join", room), clients))
        assert [reply.get("event") for reply in replies] == ["success", None] * (JOINERS // 2)
        # A list per model, project and teamspace; refusals look once more than what is cached.
        assert database.finds.total() <= 12, database.finds


def test_what_is_cached_expires_in_time(sample: str, serve_host: Callable[..., Served], teamspaces: Make) -> None:
    teamspace = teamspaces()
    model = teamspace.model({"uma": "viewer"})
    room = {"teamspace": teamspace.name, "project": teamspace.project([model]), "model": model}
    with MongoProxy(sample) as database:
        settings = {
            "REPO_NOTIFY_PERMISSION_CACHE_SECONDS": 0.6,
            "REPO_NOTIFY_SHUTDOWN_TIMEOUT": 0.2,
            # Which would say at once what the cache finds out in time.
            "REPO_NOTIFY_CHANGE_STREAMS": False,
        }
        served = serve_host(REPO_NOTIFY_MONGO_URI=database.uri, **settings)
        with closing(ChatClient(served.url, cookie=User(served).log_in("uma").cookie)) as client:
            started = monotonic()
            client.join(room)
            asked = database.finds.total()
            client.join(room)
            assert database.finds.total() == asked
            teamspace.take("settings", model)
            while client.ask("join", room).get("event") == "success":
                assert monotonic() - started < 2


def test_who_lost_the_right_leaves_the_room_and_is_told(
    serve_host: Callable[..., Served], teamspaces: Make
) -> None:
    place = Place(teamspaces())
    place.teamspace.model({"uma": "viewer", "una": "viewer"}, _id=place.model)
    place.teamspace.admins("uma", "una")
    served = serve_host(REPO_NOTIFY_RECHECK_SECONDS=0.2, REPO_NOTIFY_PERMISSION_CACHE_SECONDS=0.1)
    with closing(People(served)) as people:
        uma, una = people.client("uma"), people.client("una")
        for client in (uma, una):
            for room in (place.in_model, place.in_project, {"notifications": True}):
                client.join(room)
        place.teamspace.admins("una")
        place.teamspace.model({"una": "viewer"}, _id=place.model)
        told = {uma.hear_event("error")["message"]: True for _ in range(2)}
        assert set(told) == {"Model not found", "Project not found"}
        people.user("ann").publish("TicketCreated", **place.in_model, kind="container", data={})
        people.user("ann").publish("ModelCreated", **place.in_project, kind="container", data={"_id": "m"})
        people.user("ann").publish("NotificationUpserted", username="uma", data={})
        assert uma.heard_so_far() == [("uma::notificationUpserted", ({},))]
        assert [name for name, _ in una.heard_so_far()] == ["containerNewTicket", "newContainer"]


def test_the_recheck_says_what_the_refusal_of_a_join_would_say(
    serve_host: Callable[..., Served], teamspaces: Make
) -> None:
    teamspace = teamspaces()
    model = teamspace.model({"uma": "viewer"})
    room = {"teamspace": teamspace.name, "project": teamspace.project([model]), "model": model}
    served = serve_host(REPO_NOTIFY_RECHECK_SECONDS=0.2, REPO_NOTIFY_PERMISSION_CACHE_SECONDS=0.1)
    with closing(People(served)) as people:
        client = people.client("uma")
        client.join(room)
        teamspace.model(_id=model)
        told = client.hear_event("error")
        assert told == client.ask("join", room)
