"""The header section of an HTTP request (RFC 9112 section 5), read strictly and fast.

pywsgi has Python's e-mail parser read it, which costs as much as the rest of a handshake's parsing, and takes what the
RFC calls an error: folded lines, spaces before the colon, lines without one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO

MAX_LINE_BYTES = 65_536
MAX_FIELDS = 100

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# What no value may hold (RFC 9110 section 5.5).
_CONTROL = re.compile(r"[\x00\r\n]")


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
