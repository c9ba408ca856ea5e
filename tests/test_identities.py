"""Bindings as a backend's messages need them: moves, and the grace of sessions that have ended (spec section 11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from repo_notify.sessions import bindings
from repo_notify.sessions.bindings import GRACE_SECONDS, MAX_ENDED, Identities, Identity
from repo_notify.sessions.reads import SessionsUnavailable

CAROL, DAVE = Identity("carol", "one"), Identity("dave", "two")


class Handshakes:
    """A store that is away, or who is in it."""

    found: Identity | None = None
    is_away = False

    def read(self, environ: Mapping[str, Any]) -> Identity | None:
        if self.is_away:
            raise SessionsUnavailable
        return self.found

    def probe(self) -> None:
        """Answer."""


class Clock:
    now = 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bindings, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def identities(clock: Clock, changes: list[str]) -> Identities:
    identities = Identities(Handshakes())
    identities.changed = changes.append
    return identities


def test_a_free_connection_is_moved_and_was_nobodys(identities: Identities, changes: list[str]) -> None:
    assert identities.move("a", CAROL) is False
    assert identities.known("a") == Identity("carol", "one", named=True)
    assert changes == ["a"]


def test_the_session_that_it_has_changes_nothing(identities: Identities, changes: list[str]) -> None:
    identities.bind("a", CAROL)
    changes.clear()
    assert identities.move("a", CAROL) is False
    # It came by the cookie, as before.
    assert identities.known("a") == CAROL
    assert changes == []


@pytest.mark.parametrize("other", [DAVE, Identity("carol", "another"), Identity("dave", "one")])
def test_whoever_was_on_it_is_no_longer(identities: Identities, changes: list[str], other: Identity) -> None:
    identities.bind("a", CAROL)
    changes.clear()
    assert identities.move("a", other) is True
    assert identities.known("a") == Identity(other.username, other.session_id, named=True)
    assert identities.has_session("one") is (other.session_id == "one")
    assert identities.connections_of("one") == (["a"] if other.session_id == "one" else [])
    assert changes == ["a"]


def test_a_move_counts_more_than_a_handshake_that_was_not_read() -> None:
    handshakes = Handshakes()
    handshakes.is_away = True
    identities = Identities(handshakes)
    identities.opened("a", {})
    assert identities.move("a", DAVE) is False
    handshakes.is_away, handshakes.found = False, CAROL
    assert identities.of("a") == Identity("dave", "two", named=True)


def test_a_session_that_ended_is_found_for_five_seconds(identities: Identities, clock: Clock) -> None:
    for connection in ("a", "b"):
        identities.bind(connection, CAROL)
    assert identities.end(["one", "nobody's"]) == ["a", "b"]
    assert not identities.has_session("one")
    clock.now += GRACE_SECONDS
    assert sorted(identities.connections_of("one")) == ["a", "b"]
    # Who is somebody again is not told of the end of what was before.
    identities.bind("b", DAVE)
    assert identities.connections_of("one") == ["a"]
    clock.now += 0.1
    assert identities.connections_of("one") == []
    assert identities.connections_of("nobody's") == []


def test_clients_that_are_told_of_the_end_are_not_told_again(identities: Identities) -> None:
    identities.bind("a", CAROL)
    assert identities.end(["one"], told=True) == ["a"]
    assert identities.connections_of("one") == []


def test_what_is_kept_of_the_ended_is_bounded(identities: Identities, clock: Clock) -> None:
    for number in range(MAX_ENDED + 10):
        identities.bind("a", Identity("carol", str(number)))
        identities.end([str(number)])
    assert identities.connections_of("9") == []
    assert identities.connections_of("10") == ["a"]
    assert len(identities._ended) == MAX_ENDED
    clock.now += GRACE_SECONDS + 0.1
    identities.bind("a", DAVE)
    identities.end(["two"])
    assert list(identities._ended) == ["two"]
