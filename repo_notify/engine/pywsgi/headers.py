"""The request line and header section of an HTTP/1.1 request, read strictly (RFC 9112 sections 2 to 6).

A request that a proxy could understand in another way is refused: a bare LF, a folded line, a space before the colon,
a missing or repeated Host, a Content-Length that is no number, any Transfer-Encoding but `chunked`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote

from repo_notify.engine.wire.remembered import remembered

MAX_FIELDS = 100

_FIELD_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NAME = re.compile(_FIELD_NAME)
# What no value may hold (RFC 9110 section 5.5).
_CONTROL = re.compile(r"[\x00\r\n]")
_REQUEST_LINE = re.compile(rf"({_FIELD_NAME}) ([!-~\x80-\xff]+) (HTTP/1\.[01])\r\n")
# pywsgi takes request lines of 8 KiB.
_HEAD = re.compile(rf"({_FIELD_NAME}) ([!-~]{{1,8000}}) HTTP/1\.1\r\n((?:{_FIELD_NAME}:[^\x00\r\n]*\r\n)+)\r\n")
# RFC 3986's host and port, but for the comma: two fields that were joined have one.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+;=\x80-\xff]*)(?::[0-9]*)?")
# Python reads `3_0`, `+3` and other alphabets' digits too; no body has a length of more than 18 digits.
_LENGTH = re.compile(r"[0-9]{1,18}")
# What says that a body comes in another way than by its length.
_OTHER_BODIES = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"})
_USUAL_LENGTH = 32


class BadRequest(ValueError):
    """A request that is answered with `status`, and the connection closed. The message repeats nothing of it."""

    def __init__(self, problem: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(problem)
        self.problem = problem
        self.status = status


@remembered(_USUAL_LENGTH, 128)
def environ_key(name: str) -> str | None:
    """The key of a field in the environ (PEP 3333); None for a name that could be taken for another's, as in pywsgi."""
    if "_" in name:
        return None
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


def words_of(value: str) -> set[str]:
    """The members of a list such as `Connection: keep-alive, Upgrade`, in lower case."""
    return {word.strip(" \t") for word in value.lower().split(",")}


def request_line(line: str) -> tuple[str, str, str]:
    """Return method, target and version of a request line with its CRLF."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise BadRequest("The request line is malformed, or of another version than 1.1 or 1.0")
    method, target, version = found.groups()
    return method, target, version


class RequestHead(NamedTuple):
    """The head of a request as it usually comes: whole, and with nothing odd in it, so that one pattern reads it.

    `environ` is what it adds to the server's (PEP 3333), as pywsgi has it; `length` is its body's, `size` its own.
    """

    method: str
    target: str
    environ: dict[str, Any]
    length: int
    size: int

    @classmethod
    def parse(cls, data: bytes, max_bytes: int) -> RequestHead | None:
        """The head that `data` begins with; None for everything else, which is read step by step."""
        end = data.find(b"\r\n\r\n") + 4
        found = _HEAD.fullmatch(data[:end].decode("latin-1")) if 4 < end <= max_bytes else None
        if found is None:
            return None
        method, target, lines = found.groups()
        path, _, query = target.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1") if "%" in path else path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        fields = lines.split("\r\n")[:-1]
        for field in fields:
            name, _, value = field.partition(":")
            key = environ_key(name)
            if key is not None:
                value = value.strip(" \t")
                separator = "; " if "COOKIE" in key else ","
                environ[key] = f"{environ[key]}{separator}{value}" if key in environ else value
        length = environ.get("CONTENT_LENGTH", "0")
        usual = (
            len(fields) <= MAX_FIELDS
            # Neither is there twice.
            and _HOST.fullmatch(environ.get("HTTP_HOST", ",")) is not None
            and _LENGTH.fullmatch(length) is not None
            and "," not in environ.get("CONTENT_TYPE", "")
            and _OTHER_BODIES.isdisjoint(environ)
            and (method != "HEAD" or length == "0")
        )
        return cls(method, target, environ, int(length), end) if usual else None


class Headers:
    """A header section of at most `max_bytes`, as pywsgi asks for it. Of a repeated field `get` returns the first.

    Raises BadRequest: 431 for a section that is too large, 400 for what is no header field.
    """

    __slots__ = ("_first", "fields")

    def __init__(self, stream: BinaryIO, max_bytes: int) -> None:
        self._first: dict[str, str] = {}
        # The names, as they came, and values.
        self.fields: Sequence[tuple[str, str]] = self._read(stream, max_bytes)

    def _read(self, stream: BinaryIO, left: int) -> list[tuple[str, str]]:
        fields: list[tuple[str, str]] = []
        while (line := stream.readline(max(left, 0) + 2)) != b"\r\n":
            left -= len(line)
            if left < 0:
                raise BadRequest("The header section is too large", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not line.endswith(b"\r\n") or not _NAME.fullmatch(name):
                raise BadRequest("A line of the header section is no header field")
            value = value[:-2].strip(" \t")
            if _CONTROL.search(value):
                raise BadRequest("A header field holds a control character")
            if len(fields) == MAX_FIELDS:
                raise BadRequest(f"There are more than {MAX_FIELDS} header fields")
            fields.append((name, value))
            self._first.setdefault(name.lower(), value)
        return fields

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return a field's value, in whichever case its name is written."""
        return self._first.get(name.lower(), default)

    getheader = get

    def all(self, name: str) -> list[str]:
        """Return the values of every field of that name, which is in lower case."""
        return [value for key, value in self.fields if key.lower() == name] if name in self._first else []

    def items(self) -> Sequence[tuple[str, str]]:
        """The fields, as gunicorn's access log asks for them."""
        return self.fields

    @property
    def typeheader(self) -> str | None:
        """The content type."""
        return self.get("content-type")


def check_host(headers: Headers, version: str) -> None:
    """BadRequest unless there is one Host (RFC 9112 section 3.2); HTTP/1.0 needs none."""
    hosts = headers.all("host")
    if len(hosts) > 1 or (not hosts and version == "HTTP/1.1"):
        raise BadRequest("There is not exactly one Host")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadRequest("Host is no host")


def body_length(headers: Headers, version: str) -> int | None:
    """Return the length of the body, None where it comes in chunks (RFC 9112 section 6.3)."""
    codings, lengths = headers.all("transfer-encoding"), headers.all("content-length")
    if codings:
        if lengths or version != "HTTP/1.1" or [coding.lower() for coding in codings] != ["chunked"]:
            raise BadRequest("Transfer-Encoding is not chunked alone, or comes with a Content-Length or in HTTP/1.0")
        return None
    if len(set(lengths)) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        raise BadRequest("Content-Length is no length")
    return int(lengths[0]) if lengths else 0
