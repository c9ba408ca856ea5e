"""The header section of an HTTP request (RFC 9112 section 5), read strictly and fast.

pywsgi has Python's e-mail parser read it, which costs as much as the rest of a handshake's parsing, and takes what the
RFC calls an error: folded lines, spaces before the colon, lines without one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote

MAX_LINE_BYTES = 65_536
MAX_FIELDS = 100

_FIELD_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NAME = re.compile(_FIELD_NAME)
# What no value may hold (RFC 9110 section 5.5).
_CONTROL = re.compile(r"[\x00\r\n]")
# pywsgi takes request lines of 8 KiB.
_OPENING = re.compile(rf"GET ([!-~]{{1,8000}}) HTTP/1\.1\r\n((?:{_FIELD_NAME}:[^\x00\r\n]*\r\n)+)\r\n")
# What says that a body follows, or that an answer is awaited before it.
_OF_A_BODY = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"})
_USUAL_LENGTH = 32


def _environ_key(name: str) -> str | None:
    if "_" in name:
        return None
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


_usual_key = lru_cache(_environ_key)


def environ_key(name: str) -> str | None:
    """The key of a field in the environ (PEP 3333); None for a name that could be taken for another's, as in pywsgi."""
    return _usual_key(name) if len(name) <= _USUAL_LENGTH else _environ_key(name)


class OpeningHandshake(NamedTuple):
    """A WebSocket's opening handshake (RFC 6455 section 4.1) as it usually comes: whole, and with nothing odd in it.

    `environ` is what it adds to the server's (PEP 3333), as pywsgi has it; `rest` is what came behind it.
    """

    target: str
    environ: dict[str, Any]
    rest: bytes

    @classmethod
    def parse(cls, data: bytes) -> OpeningHandshake | None:
        """The handshake that `data` begins with; None for everything else, which is read step by step."""
        end = data.find(b"\r\n\r\n") + 4
        found = _OPENING.fullmatch(data[:end].decode("latin-1")) if end > 4 else None
        if found is None:
            return None
        target, lines = found.groups()
        path, _, query = target.partition("?")
        environ = {
            "REQUEST_METHOD": "GET",
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
        usual = environ.get("HTTP_UPGRADE", "").lower() == "websocket" and _OF_A_BODY.isdisjoint(environ)
        return cls(target, environ, data[end:]) if usual and len(fields) <= MAX_FIELDS else None


class Headers:
    """What pywsgi asks of a request's headers; `status` is empty, or says what is wrong with them.

    Of a field that comes several times `get` returns the first. Lengths that contradict one another are an error
    (RFC 9112 section 6.3), as then nobody knows where the request ends.
    """

    __slots__ = ("_fields", "_first", "status")

    def __init__(self, stream: BinaryIO) -> None:
        self._fields: list[tuple[str, str]] = []
        self._first: dict[str, str] = {}
        self.status = self._read(stream)

    def _read(self, stream: BinaryIO) -> str:
        while (line := stream.readline(MAX_LINE_BYTES + 1)) not in (b"\r\n", b"\n"):
            name, colon, value = line.decode("latin-1").partition(":")
            value = value.strip(" \t\r\n")
            if not colon or not line.endswith(b"\n") or not _NAME.fullmatch(name) or _CONTROL.search(value):
                return "a line is no header field"
            if len(self._fields) == MAX_FIELDS:
                return f"more than {MAX_FIELDS} header fields"
            self._fields.append((name, value))
            key = name.lower()
            if self._first.setdefault(key, value) != value and key == "content-length":
                return "several lengths"
        return ""

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return a field's value, in whichever case its name is written."""
        return self._first.get(name.lower(), default)

    getheader = get

    def __delitem__(self, name: str) -> None:
        del self._first[name.lower()]
        self._fields = [field for field in self._fields if field[0].lower() != name.lower()]

    @property
    def typeheader(self) -> str | None:
        """The content type."""
        return self.get("content-type")

    @property
    def fields(self) -> Sequence[tuple[str, str]]:
        """The names, as they came, and values."""
        return self._fields
