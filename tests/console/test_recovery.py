"""The console shows what happens when a connection is lost: what was missed, and what could not be recovered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.console.browser import Console
from tests.console.server import Demo
from tests.console.test_console import STRUCTURE, TOWER, WHOLE, listen_as

pytestmark = pytest.mark.browser

# A dropped pane comes back when the test says so, not when two seconds are over.
HOLD = """
    const real = window.setTimeout, held = [];
    window.setTimeout = (call, ms, ...rest) => ms === 2000 ? -held.push(call) : real(call, ms, ...rest);
    window.letBack = () => {
        window.setTimeout = real;
        held.splice(0).forEach((call) => call());
    };
"""
V4 = f"acme::{STRUCTURE}::modelStatusChanged"


@contextmanager
def dropped(console: Console, pane: str) -> Iterator[None]:
    """Drop that pane's connection for the length of the block."""
    console.driver.execute_script(HOLD)
    console.click(f"pane-{pane} drop")
    console.shows(f"pane-{pane} state", "reconnecting …")
    yield
    console.driver.execute_script("window.letBack()")
    console.shows(f"pane-{pane} state", "connected")


def missed(console: Console, pane: str) -> list[tuple[str, bool]]:
    """The events of a pane, oldest first, each with whether it is marked as missed."""
    script = """
        const entries = document.querySelectorAll(`[data-test="pane-${arguments[0]}"] [data-test="entry"]`);
        return [...entries].reverse().map((entry) => [
            entry.dataset.kind, entry.querySelector("[data-test=name]").textContent,
            Boolean(entry.querySelector("[data-test=missed]")),
        ]);
    """
    found = console.driver.execute_script(script, pane)
    return [(name, marked) for kind, name, marked in found if kind not in ("note", "reply")]


@pytest.mark.parametrize(("pane", "first"), [("v5", "containerSettingsUpdate"), ("v4", V4)])
def test_what_a_dropped_pane_missed_is_marked(console: Console, pane: str, first: str) -> None:
    second = {"v5": "containerNewRevision", "v4": V4}[pane]
    listen_as(console, "alice")
    console.make("status")
    console.arrived(pane, first)
    socket_id = console.text(f"pane-{pane} socket-id")
    assert console.text(f"pane-{pane} recovery") == ""
    with dropped(console, pane):
        assert not console.enabled(f"pane-{pane} drop")
        console.make("status")
        console.make("revision")
    console.shows(f"pane-{pane} recovery", "recovered")
    console.until(partial(console.pressed, f"pane-{pane} room-model-{STRUCTURE}"), "the room to be pressed")
    console.make("status")
    expected = [(first, False), (first, True), (second, True), (first, False)]
    console.until(lambda: len(missed(console, pane)) >= len(expected), "the events")
    assert missed(console, pane) == expected
    # Engine.IO 3 has another connection, which has joined again; the other is the one of before.
    assert (console.text(f"pane-{pane} socket-id") == socket_id) == (pane == "v5")
    joins = [arrival for arrival in console.arrivals(pane) if arrival.name == "message"]
    assert len(joins) == {"v5": 1, "v4": 2}[pane]
    assert all(arrival.name != "position" for arrival in console.arrivals(pane))


def test_a_pane_that_missed_nothing_is_recovered_all_the_same(console: Console) -> None:
    listen_as(console, "alice")
    for pane in ("v5", "v4"):
        with dropped(console, pane):
            pass
        console.shows(f"pane-{pane} recovery", "recovered")
    console.make("status")
    console.arrived("v5", "containerSettingsUpdate")
    console.arrived("v4", V4)
    assert missed(console, "v5") == [("containerSettingsUpdate", False)]
    assert missed(console, "v4") == [(V4, False)]


@pytest.mark.parametrize("pane", ["v5", "v4"])
def test_each_room_is_caught_up_with_once(console: Console, pane: str) -> None:
    listen_as(console, "alice")
    console.join(pane, f"model-{WHOLE}")
    for _ in range(2):
        console.click(f"pane-{pane} clear")
        with dropped(console, pane):
            for model in (WHOLE, STRUCTURE):
                console.choose("target", model)
                console.make("status")
        console.until(lambda: len(missed(console, pane)) >= 2, "the events of both rooms")
        assert [marked for _, marked in missed(console, pane)] == [True, True]
        models = {arrival.name.split("::")[1] if pane == "v4" else arrival.payload["model"]
                  for arrival in console.arrivals(pane) if arrival.kind == "model"}
        assert models == {WHOLE, STRUCTURE}


def test_it_comes_back_by_itself(console: Console) -> None:
    listen_as(console, "alice")
    console.click("pane-v5 drop")
    console.shows("pane-v5 state", "reconnecting …")
    console.shows("pane-v5 state", "connected")
    console.shows("pane-v5 recovery", "recovered")


def test_another_user_is_not_recovered_and_the_pane_says_whose_it_was(console: Console) -> None:
    listen_as(console, "carol")
    with dropped(console, "v5"):
        console.log_in("alice")
        console.make("status")
    console.shows("pane-v5 user", "alice")
    assert console.text("pane-v5 recovery") == ""
    assert "connected as alice; not recovered, as it was carol's" in console.text("pane-v5 log")
    # It joins its room again, and what was missed is not replayed to somebody else.
    console.until(partial(console.pressed, f"pane-v5 room-model-{STRUCTURE}"), "the room to be joined")
    assert missed(console, "v5") == []


def test_a_history_that_is_gone_is_a_gap(console: Console, demo: Demo) -> None:
    listen_as(console, "carol")
    demo.stop()
    demo.start()
    for pane in ("v5", "v4"):
        console.shows(f"pane-{pane} state", "connected")
        console.shows(f"pane-{pane} recovery", "gap")
        console.until(partial(console.pressed, f"pane-{pane} room-model-{STRUCTURE}"), "the room to be joined")
    console.until(lambda: console.arrivals("v5")[1].name == "message", "the word of a gap")
    assert console.arrivals("v5")[1].payload["event"] == "gap"
    assert all("WebSocket connection to" in complaint for complaint in console.complaints())


def test_a_right_that_was_lost_meanwhile_is_a_refusal(console: Console) -> None:
    console.log_in("alice")
    console.connect()
    console.join("v5", f"project-{TOWER}")
    console.make("create-container")
    model = console.arrived("v5", "newContainer")["data"]["_id"]
    console.join("v5", f"model-{model}")
    console.choose("target", model)
    with dropped(console, "v5"):
        console.click("trigger-remove")
        console.until(lambda: console.text("trigger-remove").startswith("Really remove"), "the question")
        console.make("remove")
    assert console.arrived("v5", "error")["message"] == "Model not found"
    assert console.text("pane-v5 recovery") == "recovered"
    assert console.pressed(f"pane-v5 room-project-{TOWER}")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (360, 740)])
def test_axe_finds_nothing_to_object_to_in_what_was_missed(
    console: Console, axe: str, width: int, height: int, dark: bool
) -> None:
    console.open(width=width, height=height, dark=dark)
    listen_as(console, "alice")
    with dropped(console, "v5"):
        console.make("status")
    console.until(lambda: missed(console, "v5") == [("containerSettingsUpdate", True)], "the missed event")
    console.at_rest()
    assert console.violations(axe) == []
