"""Request headers: read as Python's own parser reads them where they are right, refused where they are not."""

from __future__ import annotations

import io
import string
from http.client import parse_headers

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.engine.pywsgi.headers import MAX_FIELDS, MAX_LINE_BYTES, Headers

from .support import Served

NAMES = st.text("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits, min_size=1)
# Visible characters, inner spaces, and what RFC 9110 calls obs-text.
VISIBLE = [chr(code) for code in (*range(0x20, 0x7F), *range(0xA0, 0x100), 9)]
VALUES = st.text(VISIBLE).map(lambda text: text.strip(" \t"))

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_what_is_right_is_read_as_python_reads_it(fields: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields if name.lower() != "content-length")
    sent = (lines + "\r\n").encode("latin-1")
    found, expected = Headers(io.BytesIO(sent)), parse_headers(io.BytesIO(sent))
    assert found.status == ""
    assert "".join(f"{name}: {value}\r\n" for name, value in found.fields) == lines
    for name in ("absent", *expected):
        assert found.get(name.swapcase()) == found.getheader(name) == expected.get(name)


@given(st.binary())
def test_whatever_comes_has_an_end(data: bytes) -> None:
    found = Headers(io.BytesIO(data))
    assert found.status or data.startswith((b"\n", b"\r\n")) or b"\n\n" in data or b"\n\r\n" in data


BROKEN = {
    "no colon": b"Upgrade websocket\r\n",
    "no name": b": x\r\n",
    "a space before the colon": b"Upgrade : websocket\r\n",
    "a folded line": b"Accept: a\r\n b\r\n",
    "NUL": b"Accept: a\x00b\r\n",
    "a bare CR": b"Accept: a\rb\r\n",
    "a name that is not ASCII": "Accëpt: a\r\n".encode(),
    "a line too long": b"Accept: " + b"x" * MAX_LINE_BYTES + b"\r\n",
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


def test_a_field_is_deleted() -> None:
    found = Headers(io.BytesIO(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n"))
    del found["content-length"]
    assert found.get("Content-Length") is None
    assert list(found.fields) == [("Transfer-Encoding", "chunked"), ("Content-Type", "text/plain")]
    assert found.typeheader == "text/plain"
    with pytest.raises(KeyError):
        del found["content-length"]
