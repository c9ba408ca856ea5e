"""Bodies in chunks: read whatever the chunks are, and an error where they are none."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_notify.engine.pywsgi.bodies import MAX_EXTRA_BYTES, BadBody, RequestBody

BEHIND = b"GET /next HTTP/1.1\r\n"


def reading(sent: bytes) -> tuple[RequestBody, Any]:
    source: Any = io.BufferedReader(io.BytesIO(sent))
    return RequestBody(source, None), source


@given(st.lists(st.binary(min_size=1)), st.sampled_from([b"", b";a", b" ;a=b;c"]), st.sampled_from([b"", b"A: b\r\n"]))
def test_what_is_in_the_chunks_is_read_and_nothing_behind_them(data: list[bytes], extra: bytes, trailer: bytes) -> None:
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extra, chunk) for chunk in data)
    body, source = reading(chunks + b"0" + extra + b"\r\n" + trailer + b"\r\n" + BEHIND)
    assert io.BufferedReader(body).read() == b"".join(data)
    assert body.complete
    assert source.read() == BEHIND


@given(st.binary(), st.binary())
def test_whatever_comes_has_an_end(first: bytes, rest: bytes) -> None:
    body, _ = reading(b"%x\r\n%s\r\n" % (len(first), first) + rest)
    buffer = bytearray(100)
    try:
        while body.readinto(buffer):
            pass
    except BadBody:
        assert body.failed
        with pytest.raises(BadBody):
            body.readinto(buffer)
    assert body.complete != body.failed


@pytest.mark.parametrize("sent", [b"1;%s\r\na\r\n" % (b"a" * 100) * 100, b"0\r\n" + b"a: b\r\n" * MAX_EXTRA_BYTES])
def test_extensions_and_trailers_have_a_size_in_all(sent: bytes) -> None:
    body, _ = reading(sent)
    with pytest.raises(BadBody, match="too long"):
        io.BufferedReader(body).read()
