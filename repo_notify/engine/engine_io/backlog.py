"""What waits for clients that do not take it: counted for each and for all together, limited in size and in age.

The limits are on what a client does not take, not on what it was sent a moment ago: a burst that nobody could have
taken yet cuts nobody off, unless it is several times the limit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Generic, Protocol, TypeVar

from repo_notify.engine.wire.codec import Codec
from repo_notify.engine.wire.outgoing import Outgoing

from .timers import Lock, Timers

# What a piece takes in memory beside its bytes: as the frames of a raw socket, and as a packet.
FRAME_OVERHEAD = 64
PACKET_OVERHEAD = 1024
# How often the ages are looked at within `max_seconds`.
_SWEEPS = 4
# How many times `max_bytes` may wait for a moment.
_BURST = 4
# A client that takes this part of `max_bytes` in `max_seconds` takes data steadily, however much waits.
_STEADY = 1 / 16
# A client is slow, so that updates supersede one another, once what waits has waited for so long in its outbox: a poll
# is on its way until then.
_SLOW_S = 1.0
# How soon room is made once too much waits for all together, in seconds; not within the send that brought it there.
_RELIEF_S = 0.01


class Limit:
    """Why a client was cut off."""

    BYTES = "bytes"
    SECONDS = "seconds"
    TOTAL = "total"


Item = TypeVar("Item")

LIMITS = (Limit.BYTES, Limit.SECONDS, Limit.TOTAL)


@dataclass(frozen=True)
class OutboxLimits:
    """What clients may let wait: `max_bytes` each, for `max_seconds`, and `max_total` bytes together."""

    max_bytes: int = 8_388_608
    max_seconds: float = 30
    max_total: int = 268_435_456

    @property
    def socket_moment(self) -> float:
        """How long more than `max_bytes` may wait for a socket, which takes data at any time, in seconds."""
        return self.max_seconds / 30

    @property
    def poll_moment(self) -> float:
        """The same for a polling client, which needs the time of an answer and of its next request."""
        return self.max_seconds / 3


class Client(Protocol):
    """Somebody for whom something waits."""

    @property
    def backlog(self) -> Backlog | None:
        """What waits, None where nothing does."""

    def too_slow(self, limit: str) -> None:
        """Cut the client off."""


class Backlogs:
    """What waits for the clients of one server. `total` counts what waits for several of them once."""

    def __init__(self, limits: OutboxLimits, timers: Timers, lock: Lock) -> None:
        self.limits = limits
        self.lock = lock
        self.total = 0
        # How often something was dropped because what came later supersedes it.
        self.superseded = 0
        self._timers = timers
        # By the id of what waits: for how many, and its size.
        self._held: dict[int, tuple[int, int]] = {}
        self._watched: set[Client] = set()
        self._sweeping = False
        self._relieving = False

    def watch(self, client: Client) -> None:
        """Look at the age of what waits for a client, until nothing does."""
        with self.lock:
            self._watched.add(client)
            start, self._sweeping = not self._sweeping, True
        if start:
            self._sweep_later()

    def forget(self, client: Client) -> None:
        """The client is gone."""
        with self.lock:
            self._watched.discard(client)

    def hold(self, item: object, size: int) -> None:
        """Count something that waits for one more client; the caller has the lock, and keeps the item alive."""
        holders, size = self._held.get(id(item), (0, size))
        self._held[id(item)] = holders + 1, size
        if not holders:
            self.total += size
            if self.total > self.limits.max_total and not self._relieving:
                self._relieving = True
                self._timers.after(_RELIEF_S, self._relieve)

    def free(self, item: object) -> None:
        """The inverse of `hold`."""
        holders, size = self._held.pop(id(item))
        if holders > 1:
            self._held[id(item)] = holders - 1, size
        else:
            self.total -= size

    def _sweep_later(self) -> None:
        self._timers.after(self.limits.max_seconds / _SWEEPS, self._sweep)

    def _sweep(self) -> None:
        now = monotonic()
        for client, backlog in self._waiting():
            if backlog.is_old(now):
                client.too_slow(Limit.SECONDS)
            elif backlog.is_large():
                client.too_slow(Limit.BYTES)
        with self.lock:
            self._sweeping = bool(self._watched)
        if self._sweeping:
            self._sweep_later()

    def _waiting(self) -> list[tuple[Client, Backlog]]:
        """The clients for whom something waits; the others are watched no longer."""
        with self.lock:
            found = [(client, client.backlog) for client in self._watched]
            waiting = [(client, backlog) for client, backlog in found if backlog is not None and backlog.size]
            self._watched = {client for client, _ in waiting}
        return waiting

    def _relieve(self) -> None:
        """Cut off those for whom most waits, until what is left is within the limit."""
        self._relieving = False
        for client, _ in sorted(self._waiting(), key=lambda found: (-found[1].size, found[1].since)):
            if self.total <= self.limits.max_total:
                return
            client.too_slow(Limit.TOTAL)


class Backlog:
    """What waits for one client. More than `max_bytes` of it may wait for `moment` seconds."""

    __slots__ = ("_backlogs", "_due", "_large_since", "_moment", "since", "size")

    def __init__(self, backlogs: Backlogs, moment: float) -> None:
        self._backlogs = backlogs
        self._moment = moment
        self.size = 0
        # `_due` bytes of what waited at `since` are to be taken before the age begins anew.
        self.since = 0.0
        self._due = 0.0
        self._large_since = 0.0

    def add(self, item: object, size: int) -> None:
        """Something more waits."""
        with self._backlogs.lock:
            self.size += size
            if self.size == size:
                self._begin()
            if not self._large_since and self.size > self._backlogs.limits.max_bytes:
                self._large_since = monotonic()
            self._backlogs.hold(item, size)

    def remove(self, item: object, size: int, moved: int) -> None:
        """Something has left, or will not; `moved` of its size had not been reported."""
        with self._backlogs.lock:
            self.size -= size
            if self.size <= self._backlogs.limits.max_bytes:
                self._large_since = 0.0
            self._backlogs.free(item)
            self.moved(moved)

    def moved(self, size: int) -> None:
        """The client took that much."""
        self._due -= size
        if self._due <= 0:
            self._begin()

    def _begin(self) -> None:
        self.since = monotonic()
        self._due = min(self.size, self._backlogs.limits.max_bytes * _STEADY)

    def is_large(self) -> bool:
        """Whether too much waits, and not only for a moment."""
        most = self._backlogs.limits.max_bytes
        if self.size <= most:
            return False
        return self.size > most * _BURST or monotonic() - self._large_since > self._moment

    def is_old(self, now: float) -> bool:
        """Whether the client has taken neither all that waited nor a fair part of it for too long."""
        return now - self.since > self._backlogs.limits.max_seconds

    def is_slow(self) -> bool:
        """Whether something waits for longer than a request takes that comes for it."""
        return bool(self.size) and monotonic() - self.since > _SLOW_S

    def supersede(self, item: object, size: int) -> None:
        """Something will not leave since what came later supersedes it; that waits already, so that the age goes on."""
        with self._backlogs.lock:
            self._backlogs.superseded += 1
            self.remove(item, size, 0)


class Queue(Generic[Item]):
    """What waits, in order; something with an update is dropped when another with an equal one comes."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        # By its update, or by a key that nothing else has.
        self._items: OrderedDict[Hashable, Item] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def put(self, item: Item, update: Hashable | None) -> Item | None:
        """Add to the end; return what is dropped for it."""
        key = update if update is not None else object()
        superseded = self._items.pop(key, None)
        self._items[key] = item
        return superseded

    def begin(self) -> Item | None:
        """Return the first, which is written from now on, so that nothing supersedes it; None where nothing waits."""
        if not self._items:
            return None
        key = object()
        _, item = self._items.popitem(last=False)
        self._items[key] = item
        self._items.move_to_end(key, last=False)
        return item

    def popleft(self) -> Item:
        """Take the first."""
        return self._items.popitem(last=False)[1]


class Frames(Backlog):
    """Frames that wait for a raw socket, in order."""

    __slots__ = ("_frames",)

    def __init__(self, backlogs: Backlogs, frames: Iterable[bytes]) -> None:
        super().__init__(backlogs, backlogs.limits.socket_moment)
        self._frames: Queue[bytes] = Queue()
        for frame in frames:
            self.append(frame)

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._frames)

    def append(self, frame: bytes, update: Hashable | None = None) -> None:
        """A frame more waits, and supersedes the one with an equal `update`."""
        superseded = self._frames.put(frame, update)
        self.add(frame, len(frame) + FRAME_OVERHEAD)
        if superseded is not None:
            self.supersede(superseded, len(superseded) + FRAME_OVERHEAD)

    def begin(self) -> None:
        """A part of the first has left."""
        self._frames.begin()

    def popleft(self) -> bytes:
        """The first has left; its bytes were reported by `moved`."""
        frame = self._frames.popleft()
        self.remove(frame, len(frame) + FRAME_OVERHEAD, FRAME_OVERHEAD)
        return frame

    def clear(self) -> None:
        """None of what waits will leave."""
        while self._frames:
            self.popleft()


class Outbox(Backlog):
    """Packets that wait, in order, and are counted until they have left."""

    __slots__ = ("_codec", "_emptied", "_packets")

    def __init__(self, codec: Codec, backlogs: Backlogs, moment: float) -> None:
        super().__init__(backlogs, moment)
        self._codec = codec
        self._packets: Queue[Outgoing] = Queue()
        self._emptied: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return bool(self._packets)

    def put(self, out: Outgoing) -> None:
        """Queue a packet, which supersedes the one with an equal update where the client is slow."""
        with self._backlogs.lock:
            superseded = self._packets.put(out, out.update if out.update is not None and self.is_slow() else None)
            self.add(out, self._size(out))
            if superseded is not None:
                self.supersede(superseded, self._size(superseded))

    def begin(self) -> Outgoing | None:
        """The packet that leaves next; it stays until `drop`."""
        with self._backlogs.lock:
            return self._packets.begin()

    def drop(self, out: Outgoing) -> None:
        """The first has left; nothing where the outbox was cleared meanwhile."""
        with self._backlogs.lock:
            if self._packets and next(iter(self._packets)) is out:
                self._packets.popleft()
                size = self._size(out)
                self.remove(out, size, size)
            if not self._packets and self._emptied is not None:
                emptied, self._emptied = self._emptied, None
                emptied()

    def when_empty(self, call: Callable[[], None]) -> None:
        """Call, which must not wait, as soon as nothing is queued."""
        with self._backlogs.lock:
            if self._packets:
                self._emptied = call
                return
        call()

    def clear(self) -> list[Outgoing]:
        """Take everything."""
        with self._backlogs.lock:
            left = list(self._packets)
            for out in left:
                self.drop(out)
        return left

    def _size(self, out: Outgoing) -> int:
        return out.size(self._codec) + PACKET_OVERHEAD
