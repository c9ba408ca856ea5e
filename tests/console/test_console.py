"""The console page in a real browser against the real demo: what README promises a new user."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import requests
from selenium.webdriver.common.keys import Keys

from tests.console.browser import Console, selector
from tests.console.server import Demo
from tests.support.served import SECONDS

pytestmark = pytest.mark.browser

TOWER = "a608516e-0fef-4185-bca8-bf03a256ad3d"
STRUCTURE = "808d98ee-aad1-11ec-b909-0242ac120002"
WHOLE = "5bfc11fa-50ac-b7e7-4328-83aa11fa50ac"
PLAN = "0d9f3b0e-3c1c-4e0b-9d5e-6f1f6a0c7b11"

# Each change that has a button, in an order in which all can be made: its v5 names, and its v4 names within the model.
# "<issue>" stands for the id of the issue.
OF_A_CONTAINER: tuple[tuple[str, list[str], list[str]], ...] = (
    ("settings", ["containerSettingsUpdate"], []),
    ("status", ["containerSettingsUpdate"], ["modelStatusChanged"]),
    ("revision", ["containerNewRevision"], ["modelStatusChanged"]),
    ("revision-void", ["containerRevisionUpdate"], []),
    ("ticket", ["containerNewTicket"], []),
    ("ticket-update", ["containerUpdateTicket"], []),
    ("ticket-comment", ["containerNewTicketComment"], []),
    ("ticket-comment-edit", ["containerUpdateTicketComment"], []),
    ("ticket-group", ["containerUpdateTicketGroup"], []),
    ("issue", [], ["newIssues"]),
    ("issue-update", [], ["issueChanged", "<issue>::issueChanged", "newComment", "<issue>::newComment"]),
    ("issue-comment", [], ["newComment", "<issue>::newComment"]),
    ("issue-comment-edit", [], ["commentChanged", "<issue>::commentChanged"]),
    ("issue-comment-delete", [], ["commentDeleted", "<issue>::commentDeleted"]),
)


def listen_as(console: Console, user: str, model: str = STRUCTURE) -> None:
    """Let both panes be `user`, in the room of `model`."""
    console.log_in(user)
    console.connect()
    for pane in ("v5", "v4"):
        console.shows(f"pane-{pane} user", user)
        console.join(pane, f"model-{model}")


def test_what_alice_changes_arrives_at_carols_two_clients(console: Console) -> None:
    listen_as(console, "carol")
    assert [arrival.name for arrival in console.arrivals("v5")] == ["message"]
    assert sorted(arrival.name for arrival in console.arrivals("v4")) == ["joined", "message"]

    console.log_in("alice")
    assert console.text("pane-v5 user") == console.text("pane-v4 user") == "carol"
    for change, v5, v4 in OF_A_CONTAINER:
        for pane in ("v5", "v4"):
            console.click(f"pane-{pane} clear")
        console.make(change)
        console.until(partial(same_names, lambda: console.events("v5"), v5), f"{v5} in the v5 pane after {change}")
        console.until(partial(same_names, lambda: names_in_model(console), v4), f"{v4} in the v4 pane after {change}")


def same_names(arrived: Callable[[], list[str]], expected: list[str]) -> bool:
    """Tell whether just these events arrived; one event's own names may come in any order."""
    return sorted(arrived()) == sorted(expected)


def names_in_model(console: Console) -> list[str]:
    """Return the v4 events of Structure without what they all begin with, and without the issue's id."""
    prefix = f"acme::{STRUCTURE}::"
    names = []
    for name in console.events("v4"):
        assert name.startswith(prefix)
        *issue, last = name[len(prefix) :].split("::")
        names.append("::".join([*("<issue>" for _ in issue), last]))
    return names


def test_each_pane_speaks_as_its_frontends_do(console: Console, demo: Demo) -> None:
    console.connect()
    metrics = requests.get(demo.url + "notify/metrics", timeout=SECONDS).text
    for generation in ("3", "4"):
        assert f'repo_notify_connections{{generation="{generation}",transport="websocket"}}' in metrics


def test_payloads_are_those_of_the_protocol(console: Console) -> None:
    listen_as(console, "carol")
    console.log_in("alice")
    console.make("revision")
    payload = console.arrived("v5", "containerNewRevision")
    assert {**payload, "data": payload["data"]["author"]} == {
        "teamspace": "acme",
        "project": TOWER,
        "model": STRUCTURE,
        "data": "alice",
    }
    console.make("issue")
    (issue,) = console.arrived("v4", f"acme::{STRUCTURE}::newIssues")
    console.make("issue-comment")
    assert console.arrived("v4", f"acme::{STRUCTURE}::newComment")["issueId"] == issue["_id"]


@pytest.mark.parametrize("kind", ["container", "federation", "drawing"])
def test_a_model_appears_can_be_joined_and_is_removed(console: Console, kind: str) -> None:
    console.log_in("alice")
    console.connect()
    console.join("v5", f"project-{TOWER}")
    console.join("v4", "teamspace")
    console.make(f"create-{kind}")
    model = console.arrived("v5", f"new{kind.title()}")["data"]["_id"]
    assert console.arrived("v4", "acme::newModel")["_id"] == model

    console.join("v5", f"model-{model}")
    console.choose("target", model)
    console.click("trigger-remove")
    console.until(lambda: console.text("trigger-remove").startswith("Really remove"), "the question")
    console.make("remove")
    assert console.arrived("v5", f"{kind}Removed")["model"] == model


@pytest.mark.parametrize(
    ("kind", "model", "impossible"),
    [
        ("federation", WHOLE, ["revision-void"]),
        ("drawing", PLAN, ["ticket", "ticket-update", "ticket-comment", "ticket-group"]),
    ],
)
def test_buttons_follow_what_a_kind_of_model_can_do(
    console: Console, kind: str, model: str, impossible: list[str]
) -> None:
    listen_as(console, "alice", model)
    console.choose("target", model)
    console.make("revision")
    console.arrived("v5", f"{kind}NewRevision")
    for change in impossible:
        assert not console.enabled(f"trigger-{change}")


def test_a_refused_join_says_so_in_both_protocols(console: Console) -> None:
    console.log_in("mallory")
    console.connect()
    for pane in ("v5", "v4"):
        console.click(f"pane-{pane} room-model-{STRUCTURE}")
    refusal = {"code": "ROOM_NOT_FOUND", "message": "Model not found"}
    room = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
    assert console.arrived("v5", "error") == {**refusal, "details": {"action": "join", "data": room}}
    assert console.arrived("v4", "credentialError") == refusal
    console.arrived("v4", "error")
    for pane in ("v5", "v4"):
        assert not console.pressed(f"pane-{pane} room-model-{STRUCTURE}")
        assert {arrival.kind for arrival in console.arrivals(pane)} == {"refusal"}


def test_a_left_room_is_silent(console: Console) -> None:
    listen_as(console, "alice")
    console.click(f"pane-v5 room-model-{STRUCTURE}")
    console.until(lambda: not console.pressed(f"pane-v5 room-model-{STRUCTURE}"), "the room to be left")
    console.make("revision")
    console.arrived("v4", f"acme::{STRUCTURE}::modelStatusChanged")
    assert console.events("v5") == []


@pytest.mark.parametrize(("emitter", "other"), [("v5", "v4"), ("v4", "v5")])
def test_the_socket_named_as_emitter_is_spared(console: Console, emitter: str, other: str) -> None:
    names = {"v5": "containerSettingsUpdate", "v4": f"acme::{STRUCTURE}::modelStatusChanged"}
    listen_as(console, "alice")
    console.name_as_emitter(emitter)
    console.make("status")
    console.arrived(other, names[other])
    console.name_as_emitter("nobody")
    console.make("status")
    console.until(lambda: len(console.events(other)) == 2, "the second change")
    console.arrived(emitter, names[emitter])
    assert console.events(emitter) == [names[emitter]]


def test_a_socket_that_came_before_the_login_is_bound_by_a_request_that_names_it(console: Console) -> None:
    console.connect()
    console.shows("pane-v5 user", "not logged in")
    console.click(f"pane-v5 room-model-{STRUCTURE}")
    assert console.arrived("v5", "error")["code"] == "UNAUTHORISED"
    console.log_in("alice")
    console.name_as_emitter("v5")
    console.make("settings")
    console.shows("pane-v5 user", "alice")
    console.join("v5", f"model-{STRUCTURE}")


def test_a_notification_reaches_its_user_in_both_panes(console: Console) -> None:
    console.log_in("carol")
    console.connect()
    console.join("v5", "notifications")
    console.join("v4", "account")
    console.log_in("alice")
    console.choose("recipient", "carol")
    for change, name in (("notification", "notificationUpserted"), ("notification-delete", "notificationDeleted")):
        console.make(change)
        for pane in ("v5", "v4"):
            console.arrived(pane, f"carol::{name}")


def test_logging_out_ends_the_session_of_both_panes(console: Console) -> None:
    listen_as(console, "carol")
    console.click("logout")
    for pane in ("v5", "v4"):
        assert console.arrived(pane, "loggedOut")["reason"]
        console.shows(f"pane-{pane} user", "not logged in")
        assert not console.pressed(f"pane-{pane} room-model-{STRUCTURE}")


def test_logging_in_again_takes_the_place_of_the_older_session(console: Console) -> None:
    listen_as(console, "carol")
    console.log_in("alice")
    console.log_in("carol")
    for pane in ("v5", "v4"):
        assert console.arrived(pane, "loggedOut") == {"reason": "You have logged in else where"}


def test_after_a_restart_of_the_server_the_rooms_are_joined_again(console: Console, demo: Demo) -> None:
    listen_as(console, "carol")
    demo.stop()
    console.until(lambda: console.text("pane-v5 state") != "connected", "the connection to be lost")
    demo.start()
    for pane in ("v5", "v4"):
        console.shows(f"pane-{pane} state", "connected")
        console.until(partial(console.pressed, f"pane-{pane} room-model-{STRUCTURE}"), f"{pane} to be back in its room")
        console.shows(f"pane-{pane} user", "carol")
    # The attempts in between cannot have succeeded, and Chromium says so.
    assert all("WebSocket connection to" in complaint for complaint in console.complaints())


def test_a_reload_knows_who_is_logged_in(console: Console) -> None:
    console.log_in("bob")
    console.driver.refresh()
    console.until(lambda: console.pressed("login-bob"), "bob to be logged in still")


def test_the_keyboard_is_enough(console: Console) -> None:
    console.find("login-carol").send_keys(Keys.ENTER)
    console.until(lambda: console.pressed("login-carol"), "carol to be logged in")
    console.find("connect-both").send_keys(Keys.SPACE)
    console.shows("pane-v5 state", "connected")
    room = f"pane-v5 room-model-{STRUCTURE}"
    console.find(room).send_keys(Keys.ENTER)
    console.until(lambda: console.pressed(room), "the room to be joined")
    assert console.driver.switch_to.active_element == console.find(room)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (800, 900), (360, 740)])
def test_the_page_fits_its_window(console: Console, width: int, height: int) -> None:
    console.open(width=width, height=height)
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert console.driver.execute_script(overflow) == 0


def test_the_guide_leads_through_the_steps(console: Console) -> None:
    def says(words: str) -> None:
        console.until(lambda: words in console.text("guide"), f"the guide to say {words!r}")

    says("log in as carol")
    console.log_in("carol")
    says("connect both panes")
    console.connect()
    says("Join rooms")
    console.join("v5", f"model-{STRUCTURE}")
    says("Log in as alice")
    console.log_in("alice")
    says("Make a change")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 740)])
def test_axe_finds_nothing_to_object_to(console: Console, axe: str, width: int, height: int, dark: bool) -> None:
    console.open(width=width, height=height, dark=dark)
    listen_as(console, "carol")
    console.click("pane-v5 room-project-" + TOWER)
    console.arrived("v5", "error")
    console.log_in("alice")
    console.make("status")
    console.arrived("v5", "containerSettingsUpdate")
    console.at_rest()
    assert console.violations(axe) == []


def test_a_join_says_which_room_it_was(console: Console) -> None:
    listen_as(console, "carol")
    assert console.text("pane-v5 says") == "joined Structure"
    console.click(f"pane-v5 room-project-{TOWER}")
    console.arrived("v5", "error")
    assert console.text("pane-v5 says") == "join project Tower: Project not found"


def test_on_a_phone_the_guide_and_the_counts_stay_in_view_and_every_target_is_large(console: Console) -> None:
    console.open(width=360, height=740)
    listen_as(console, "carol")
    console.log_in("alice")
    console.make("status")
    console.arrived("v5", "containerSettingsUpdate")
    console.driver.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    for name in ("guide", "counts"):
        assert console.driver.execute_script(IN_VIEW, selector(name)), name
    console.shows("count-v5", console.text("pane-v5 count"))
    assert console.driver.execute_script(SMALL) == []


IN_VIEW = """
    const {top, bottom, height} = document.querySelector(arguments[0]).getBoundingClientRect();
    return height > 0 && top >= 0 && bottom <= window.innerHeight;
"""
SMALL = """
    const shown = [...document.querySelectorAll("button, select, summary, .segments label")]
        .filter((target) => target.checkVisibility());
    return shown.filter((target) => target.getBoundingClientRect().height < 44).map((target) => target.outerHTML);
"""


@pytest.mark.parametrize(
    ("user", "room", "change", "why"),
    [
        ("mallory", f"model-{STRUCTURE}", "settings", "was refused the room of Structure: Model not found"),
        ("carol", "notifications", "settings", "the v5 pane is not in the room of Structure"),
        ("carol", f"model-{STRUCTURE}", "issue", "the v4 pane is not in the room of Structure; v5 has no such event"),
    ],
)
def test_when_nobody_heard_of_a_change_the_guide_says_why(
    console: Console, user: str, room: str, change: str, why: str
) -> None:
    console.log_in(user)
    console.connect()
    console.click(f"pane-v5 room-{room}")
    console.until(lambda: console.arrivals("v5"), "an answer")
    console.log_in("alice")
    console.make(change)
    console.until(lambda: console.text("guide").startswith("Nobody heard of it"), "the guide to say why")
    assert why in console.text("guide")
    console.click("pane-v4 connect")
    console.until(lambda: "Nobody" not in console.text("guide"), "the guide to go on")


def test_the_sample_data_can_be_made_anew(console: Console) -> None:
    console.log_in("alice")
    console.make("create-drawing")
    console.until(lambda: "Section" in console.text("target"), "the new drawing to be offered")
    console.make("issue")
    assert console.enabled("trigger-issue-update")
    console.click("reset")
    console.until(lambda: "Section" not in console.text("target"), "the drawing to be gone")
    assert not console.enabled("trigger-issue-update")
    listen_as(console, "carol")


def test_a_change_can_be_made_by_its_curl_command(console: Console, tmp_path: Path) -> None:
    console.log_in("alice")
    console.make("issue")
    command = str(console.read("requests curl", "textContent"))
    console.click("requests entry")
    console.click("requests copy-curl")
    console.shows("requests copy-curl", "Copied")
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0] == {"username": "alice"}
    assert answers[1]["name"].startswith("Issue ")
