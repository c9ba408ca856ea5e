"""Room keys are injective, and UUIDs are compared without regard to case."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from repo_notify.protocol.ids import fold_uuid, is_uuid
from repo_notify.protocol.rooms import PREFIX, Room
from repo_notify.protocol.v5 import MODEL

texts = st.text(max_size=8) | st.sampled_from(["a::b", "a", "b::c", '"', '","', "\\", "[", "\ud800"])
rooms = st.builds(
    Room, st.sampled_from(["model", "project", "v4 model"]), st.lists(texts, min_size=1, max_size=3).map(tuple)
)


@given(rooms, rooms)
def test_two_rooms_have_two_keys(one: Room, other: Room) -> None:
    assert (one.key == other.key) == (one == other)


@given(rooms)
def test_a_key_tells_its_room(room: Room) -> None:
    assert room.key.startswith(PREFIX)
    assert Room.parse(room.key) == room


@given(st.uuids(), st.uuids(), st.text(min_size=1))
def test_case_of_uuids_does_not_matter_that_of_a_teamspace_does(project: UUID, model: UUID, teamspace: str) -> None:
    room = MODEL.room(teamspace, str(project), str(model))
    assert MODEL.room(teamspace, str(project).upper(), str(model).upper()).key == room.key
    assert (MODEL.room(teamspace.swapcase(), str(project), str(model)).key == room.key) == (
        teamspace.swapcase() == teamspace
    )


@given(st.uuids())
def test_a_teamspace_named_like_a_uuid_keeps_its_case(name: UUID) -> None:
    upper = str(name).upper()
    assert (Room("v4 teamspace", (upper,)).key == Room("v4 teamspace", (str(name),)).key) == (upper == str(name))


@given(st.uuids())
def test_uuids_fold(value: UUID) -> None:
    assert is_uuid(str(value).upper())
    assert fold_uuid(str(value).upper()) == str(value)


@given(st.text())
def test_nothing_else_folds(text: str) -> None:
    assert is_uuid(text) or fold_uuid(text) == text


def test_other_spellings_of_a_uuid_are_none() -> None:
    value = "a608516e-0fef-4185-bca8-bf03a256ad3d"
    others = [value.replace("-", ""), f"{{{value}}}", f"urn:uuid:{value}", value + "\n", value.replace("a", "\uff41")]
    assert not any(map(is_uuid, others))
