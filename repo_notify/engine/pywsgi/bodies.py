"""What arrives on a connection, with limits on how long it is waited for, and the bodies of requests in it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from time import monotonic
from typing import Any

# So much has to come within a server's patience, for a body that takes longer to be waited for.
PACE_BYTES = 65_536
# All chunk extensions and trailers of one body; nobody reads them.
MAX_EXTRA_BYTES = 8_192

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\x00\r\n]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00\r\n]*\r\n")


class Arriving(io.RawIOBase):
    """What arrives on a socket: as its `makefile`, with fewer steps, and with an end to reading.

    `prefetched` was read before. Waiting is measured, not time: who is slow to ask has not made the client slow.
    """

    def __init__(self, source: Any, prefetched: bytes) -> None:
        self._source = source
        self.prefetched = prefetched
        self.ended = False
        self.timed_out = False
        self._left: float | None = None
        self._most = self._gain = 0.0

    def readable(self) -> bool:
        """As a file that can be read."""
        return True

    def allow(self, seconds: float | None, *, paced: bool = False) -> None:
        """From now on wait for that long in all, then raise TimeoutError; None: without an end.

        `paced`: each `PACE_BYTES` that come are good for as many seconds again.
        """
        if seconds is None:
            self._source.settimeout(None)
        self._left = seconds
        self._most, self._gain = seconds or 0.0, (seconds or 0.0) / PACE_BYTES if paced else 0.0

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come; TimeoutError where the client may not be waited for any longer."""
        if self.prefetched:
            given = self.prefetched[: len(buffer)]
            buffer[: len(given)] = given
            self.prefetched = self.prefetched[len(given) :]
            return len(given)
        if self.ended:
            return None
        count: int = self._source.recv_into(buffer) if self._left is None else self._receive(buffer, self._left)
        return count

    def _receive(self, buffer: Any, left: float) -> int:
        begun = monotonic()
        # What has come already is taken in any case.
        self._source.settimeout(max(left, 0))
        try:
            count: int = self._source.recv_into(buffer)
        except OSError as error:
            # TLS sockets have an error of their own for it.
            if monotonic() - begun >= left:
                self.timed_out = True
                raise TimeoutError("the client did not send the rest in time") from error
            raise
        self._left = min(self._most, left - (monotonic() - begun) + count * self._gain)
        return count


class BadBody(OSError):
    """A body that is not what its request said; the message repeats nothing of it."""


class RequestBody(io.RawIOBase):
    """The body of one request (RFC 9112 sections 6 and 7): `length` bytes, or chunks where that is None.

    `proceed` asks the client for it (RFC 9110 section 10.1.1), when somebody wants it. `due` is how much of it, or of
    the current chunk, is still to come.
    """

    def __init__(
        self, source: io.BufferedReader, length: int | None, proceed: Callable[[], None] | None = None
    ) -> None:
        self._source = source
        self._chunked = length is None
        self._proceed = proceed
        self._begun = False
        self._extra = MAX_EXTRA_BYTES
        self.due = length or 0
        self.complete = length == 0
        self.failed = False

    def readable(self) -> bool:
        """As a file that can be read."""
        return True

    def left_over(self, most: int) -> bool:
        """Whether the rest cannot just be read on: it may have more than `most` bytes, or not be sent at all."""
        return not self.complete and (self.failed or self._chunked or self.due > most or self._proceed is not None)

    def readinto(self, buffer: Any) -> int:
        """Read more of the body; BadBody or TimeoutError where it does not come, and then it has failed for good."""
        if self.complete or not len(buffer):
            return 0
        if self.failed:
            raise BadBody("the body has ended prefetched")
        self.failed = True
        count = self._read(buffer)
        self.failed = False
        return count

    def _read(self, buffer: Any) -> int:
        if self._proceed is not None:
            proceed, self._proceed = self._proceed, None
            proceed()
        if self._chunked and self.due == 0 and not self._next_chunk():
            self.complete = True
            return 0
        count = self._source.readinto1(memoryview(buffer)[: self.due])
        if not count:
            raise BadBody("the body ended prefetched")
        self.due -= count
        self.complete = self.due == 0 and not self._chunked
        return count

    def _next_chunk(self) -> bool:
        """Read up to the next chunk's data; False at the end of the body."""
        if self._begun and self._source.read(2) != b"\r\n":
            raise BadBody("a chunk is longer than it said")
        self._begun = True
        found = _CHUNK_SIZE.fullmatch(self._line())
        if found is None:
            raise BadBody("a chunk's size is none")
        self.due = int(found[1], 16)
        if self.due:
            return True
        while (line := self._line()) != b"\r\n":
            if not _TRAILER.fullmatch(line):
                raise BadBody("a trailer is no header field")
        return False

    def _line(self) -> bytes:
        # A size and its CRLF are 18 bytes at most; whatever else there is has a sum.
        line = self._source.readline(self._extra + 18)
        self._extra -= max(len(line) - 18, 0) if _CHUNK_SIZE.fullmatch(line) else len(line)
        if self._extra < 0:
            raise BadBody("the chunks' extensions and trailers are too long")
        return line


NO_BODY = RequestBody(io.BufferedReader(io.BytesIO()), 0)
