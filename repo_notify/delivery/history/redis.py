"""Redis as a history's store: the connection, and the keys of one service, which have one hash tag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .store import StoreUnavailable

if TYPE_CHECKING:
    from redis import Redis

# How long connecting, and one call, may take.
CONNECT_SECONDS, CALL_SECONDS = 2.0, 3.0
# The scripts need it.
OLDEST = (6, 2)
# What is left of a service that has gone is deleted so long after it is of no use any more.
MARGIN_SECONDS = 120


class Service:
    """One service's part of a Redis; `seconds` are the history's."""

    def __init__(self, url: str, name: str, *, seconds: float) -> None:
        from redis import Redis

        self.client: Redis = Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=CALL_SECONDS,
            socket_keepalive=True,
            # What is read looks otherwise in the newer one.
            protocol=2,
        )
        self.seconds = seconds
        self.ttl = round(seconds) + MARGIN_SECONDS
        keys = f"{{{name}}}:"
        self.meta, self.stream, self.origins = f"{keys}history", f"{keys}stream", f"{keys}origin:"
        self.trimmed = f"{keys}trimmed"
        self.inlet, self.marks = f"{keys}inlet", f"{keys}marks"
        self.processes, self.ended, self.records = f"{keys}processes", f"{keys}ended", f"{keys}records:"

    def version(self) -> tuple[int, ...]:
        """Return the version of Redis; raises `StoreUnavailable`."""
        with within():
            told: Any = self.client.info("server")
        return tuple(int(part) for part in str(told["redis_version"]).split(".")[:3])

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


@contextmanager
def within() -> Iterator[None]:
    """Raise `StoreUnavailable` for whatever Redis, or the way to it, raises."""
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
