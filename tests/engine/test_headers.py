"""Request headers: read as Python's own parser reads them where they are right, refused where they are not."""

from __future__ import annotations

import io
import string
from collections.abc import Callable
from http.client import parse_headers

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.engine.pywsgi.headers import MAX_FIELDS, BadRequest, Headers

from .support import Served

NAMES = st.text("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits, min_size=1)
# Visible characters, inner spaces, and what RFC 9110 calls obs-text.
VISIBLE = [chr(code) for code in (*range(0x20, 0x7F), *range(0xA0, 0x100), 9)]
VALUES = st.text(VISIBLE).map(lambda text: text.strip(" \t"))

MAX_BYTES = 16_384
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def read(sent: bytes) -> Headers | None:
    """The headers, None where they are refused."""
    try:
        return Headers(io.BytesIO(sent), MAX_BYTES)
    except BadRequest:
        return None


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_what_is_right_is_read_as_python_reads_it(fields: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    sent = (lines + "\r\n").encode("latin-1")
    found, expected = read(sent), parse_headers(io.BytesIO(sent))
    assert found is not None
    assert "".join(f"{name}: {value}\r\n" for name, value in found.fields) == lines
    for name in ("absent", *expected):
        assert found.get(name.swapcase()) == found.getheader(name) == expected.get(name)
        assert found.all(name.lower()) == expected.get_all(name, [])


@given(st.binary())
def test_whatever_comes_has_an_end(data: bytes) -> None:
    assert read(data) is None or data.startswith(b"\r\n") or b"\r\n\r\n" in data


@pytest.mark.parametrize("size", [MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1, 10 * MAX_BYTES])
@pytest.mark.parametrize("fields", [1, 50])
def test_headers_have_a_size_in_all(size: int, fields: int) -> None:
    each, rest = divmod(size, fields)
    lines = [b"a:" + b"x" * (each - 4 + (rest if n == 0 else 0)) + b"\r\n" for n in range(fields)]
    assert sum(map(len, lines)) == size
    assert (read(b"".join(lines) + b"\r\n") is not None) == (size <= MAX_BYTES)


BROKEN = {
    "no colon": b"Upgrade websocket\r\n",
    "no name": b": x\r\n",
    "a space before the colon": b"Upgrade : websocket\r\n",
    "a folded line": b"Accept: a\r\n b\r\n",
    "NUL": b"Accept: a\x00b\r\n",
    "a bare CR": b"Accept: a\rb\r\n",
    "a name that is not ASCII": "Accëpt: a\r\n".encode(),
    "too many": b"".join(b"X-%d: x\r\n" % n for n in range(MAX_FIELDS)),
    "two lengths": b"Content-Length: 1\r\nContent-Length: 2\r\n",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_is_answered_with_400(plain: dict[str, Served], broken: str) -> None:
    with plain["gevent"].raw() as raw:
        raw.sendall(b"GET /chat/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n" + BROKEN[broken] + b"\r\n")
        with raw.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 400 ")
    assert plain["gevent"].request("GET", EIO="4", transport="polling").status == 200


def test_a_field_that_comes_twice(plain: dict[str, Served]) -> None:
    """Lengths that agree are one; of others WSGI gets all."""
    headers = b"Host: x\r\nConnection: close\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"
    with plain["gevent"].raw() as raw:
        raw.sendall(b"POST /state HTTP/1.1\r\n" + headers)
        with raw.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(("name", "status"), [("Sec-WebSocket-Key", b"101"), ("Sec_WebSocket_Key", b"400")])
def test_a_name_with_underscores_is_no_name_with_hyphens(plain: dict[str, Served], name: str, status: bytes) -> None:
    """WSGI could not tell them apart, and a proxy may look at one of them only."""
    upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    with plain["gevent"].raw() as raw:
        raw.sendall(f"GET /chat/?EIO=4&transport=websocket HTTP/1.1\r\n{upgrade}{name}: {KEY}\r\n\r\n".encode())
        with raw.makefile("rb") as answer:
            assert answer.readline().split()[1] == status


@pytest.mark.parametrize("kind", ["gevent", "gevent, pywsgi"])
@pytest.mark.parametrize("upgrade", ["", "Upgrade: websocket\r\n"])
@pytest.mark.parametrize(
    "lines",
    {
        "one long field": b"A: " + b"x" * 70_000 + b"\r\n",
        "long fields": b"".join(b"A-%d: %s\r\n" % (n, b"x" * 500) for n in range(99)),
        "a field without an end": b"A: " + b"x" * 70_000,
    }.values(),
    ids=len,
)
def test_large_headers_are_refused(start: Callable[..., Served], kind: str, upgrade: str, lines: bytes) -> None:
    with start(kind).raw() as raw:
        raw.sendall(b"GET /chat/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n" + upgrade.encode() + lines + b"\r\n")
        with raw.makefile("rb") as answer:
            said = answer.read()
    assert said.startswith(b"HTTP/1.1 431 ")
    assert b"Connection: close\r\n" in said
