"""No answer is larger than its question and a few hundred bytes; what is repeated is the object as it came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import UNHURRIED, host_defaults
from tests.security.clients import Chat, attached
from tests.support.served import Served, User, host_app

FEW_HUNDRED = 512
PLACEHOLDER = '{"_placeholder":true,"num":%d}'


@pytest.fixture(scope="module")
def port(sample: str) -> Iterator[Served]:
    with host_app({**host_defaults(sample), **UNHURRIED}) as served:
        yield served


@pytest.fixture(scope="module", params=[(4, None), (4, "carol"), (3, None), (3, "carol")], ids=str)
def client(request: pytest.FixtureRequest, port: Served) -> Iterator[Chat]:
    """An anonymous client and a user, of both generations."""
    eio, user = request.param
    if eio == 3:
        pytest.importorskip("legacy_v4")
    with ExitStack() as stack:
        yield stack.enter_context(Chat(port.port, eio, User(port).log_in(user).cookie if user else ""))


def test_an_attachment_that_many_name_is_no_answer_at_all(client: Chat, port: Served) -> None:
    many = ",".join([PLACEHOLDER % 0] * 100)
    with Chat(port.port, client.eio, client.cookie) as hostile:
        hostile.send(f'451-["join",[{many}]]', attached(client.eio, b"x" * 100_000))
        assert hostile.receive_all() == []


# JSON texts that are longer when they are written anew: numbers, characters, spaces, escapes, names.
NUMBERS = st.sampled_from(["1e9", "9e15", "1E2", "-0", "1e-4", "12345678901234567890", "0.1", "5e-324", "-1e+5"])
STRINGS = st.text(max_size=50).map(lambda text: json.dumps(text, ensure_ascii=False)) | st.sampled_from(
    ['"ü"', '"\\u00fc"', '"🏗🏗🏗"', '"\\ud800"', '"\\n\\t\\/"', '"\x7f"', '"\u2028"']
).map(lambda text: text)
LEAVES = NUMBERS | st.sampled_from(["null", "true", "[]", "{}", '""']) | STRINGS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=8).map(lambda found: f"[{','.join(found)}]")
    | st.dictionaries(STRINGS.filter(lambda text: text.isprintable()), inner, max_size=5).map(
        lambda found: "{" + ", ".join(f"{key}:{value}" for key, value in found.items()) + "}"
    ),
    max_leaves=30,
)
REPEATED = st.builds(lambda value, times: f"[{','.join([value] * times)}]", VALUES, st.integers(1, 300))
OBJECTS = st.builds(
    lambda known, more: f'{{{known}"more":{more}}}',
    st.sampled_from(["", '"notifications":true,', '"account":"carol",', '"account":null,', '"teamspace":"ü",']),
    VALUES | REPEATED,
)
NAMES = st.sampled_from(['"join"', '"leave"', '"*"', '"connect"']) | STRINGS | NUMBERS
QUESTIONS = st.builds(lambda name, data: (name, data), NAMES, OBJECTS | VALUES | REPEATED)


@settings(max_examples=150)
@given(question=QUESTIONS, ack=st.booleans())
def test_no_answer_is_larger_than_its_question(client: Chat, question: tuple[str, str], ack: bool) -> None:
    name, data = question
    asked = f"42{'7' if ack else ''}[{name},{data}]"
    answers = client.ask(asked)
    size = len(asked.encode())
    for answer in answers:
        assert len(answer) <= size + FEW_HUNDRED
    # The reply, and where it was asked for the acknowledgement; v4's own words repeat nothing.
    assert sum(map(len, answers)) <= (1 + ack) * (size + FEW_HUNDRED) + FEW_HUNDRED


def echo_of(answer: bytes) -> Any:
    reply = json.loads(answer.decode().lstrip("0123456789"))[-1]
    return (reply.get("details") or reply["data"])["data"]


@pytest.mark.parametrize(
    "data",
    ['{"Zürich":"ü🏗\u2028"}', '{"n":[0.1,1e+22,12345678901234567890]}', '{"odd":"\\ud800"}', "[" * 500 + "]" * 500],
)
def test_the_echo_is_the_object_as_it_came(client: Chat, data: str) -> None:
    (answer,) = client.ask(f'42["join",{data}]')
    assert echo_of(answer) == json.loads(data)


def test_binary_values_are_null(client: Chat) -> None:
    text = f'452-["join",{{"a":[{PLACEHOLDER % 1}],"b":{PLACEHOLDER % 0}}}]'
    (answer,) = client.ask(text, *(attached(client.eio, part) for part in (b"x" * 1000, b"y" * 100_000)))
    assert answer.startswith(b"42[")
    assert echo_of(answer) == {"a": [None], "b": None}


def test_beyond_it_nothing_is_repeated(client: Chat) -> None:
    written = ",".join(["9e15"] * 1000)
    (answer,) = client.ask(f'42["join",[{written}]]')
    assert echo_of(answer) is None
    assert len(answer) < FEW_HUNDRED
