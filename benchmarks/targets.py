"""What is to be reached, as a table; whether it was is computed from the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.figures import (
    BUSY,
    COMPLETENESS,
    COUNT,
    KILOBYTES,
    MEBIBYTES,
    MICROSECONDS,
    MILLISECONDS,
    PER_SECOND,
    SECONDS,
    SHARE,
    Key,
    Results,
    Unit,
)
from benchmarks.peers import HISTORY
from benchmarks.scenarios import (
    access,
    backend,
    fanout,
    heartbeats,
    idle,
    in_process,
    inbound,
    joining,
    latency,
    leaving,
    publishing,
    recovery,
    restarts,
    slow,
)

OURS = "ours"
RATE = PER_SECOND


@dataclass(frozen=True)
class Verdict:
    """What one target came to: None where the run did not measure it. `why` tells of the figures behind it."""

    reached: bool | None
    measured: str
    why: str = ""


# What a rate or a delay comes from: the server's own work, or waiting for others.
EVIDENCE: dict[str, tuple[tuple[str, Unit], ...]] = {
    fanout.SINGLE: ((fanout.SINGLE_CPU, MICROSECONDS), (fanout.SINGLE_BUSY, BUSY)),
    fanout.BURSTS: ((fanout.BURST_CPU, MICROSECONDS),),
    latency.P50: ((latency.SERVER_BUSY, BUSY), (latency.CPU, MICROSECONDS)),
    latency.P99: ((latency.P50, MILLISECONDS), (latency.SERVER_BUSY, BUSY), (latency.CPU, MICROSECONDS)),
    publishing.SINGLE: ((publishing.SINGLE_CPU, MICROSECONDS),),
    publishing.ARRAYS: ((publishing.ARRAYS_CPU, MICROSECONDS),),
    in_process.OWN: ((in_process.KERNEL, MICROSECONDS),),
    recovery.P99: ((recovery.P50, MILLISECONDS), (recovery.RECOVERED, COMPLETENESS), (recovery.SERVER_BUSY, BUSY)),
}

NOT_MEASURED = Verdict(None, "not measured in this run")
Judge = Callable[[Results], Verdict]


@dataclass(frozen=True)
class Target:
    """One row: what is asked, and the judge."""

    scenario: str
    wanted: str
    judge: Judge


def _key(scenario: str, case: str, metric: str, peer: str = OURS) -> Key:
    return Key(scenario, case, metric, peer)


def _times(key: Key, peer: str, least: float | None = None, most: float | None = None, unit: Unit = SHARE) -> Judge:
    """Judge a figure, in general ours, by its ratio to a peer's, taken round by round."""

    def judge(results: Results) -> Verdict:
        theirs = Key(key.scenario, key.case, key.metric, peer)
        ratio, mine, other = results.ratio(key, theirs), results.figure(key), results.figure(theirs)
        if ratio is None or mine is None or other is None:
            return NOT_MEASURED
        reached = (least is None or ratio.median >= least) and (most is None or ratio.median <= most)
        shown = f"{ratio.median:.2f} × {peer} ({ratio.low:.2f} .. {ratio.high:.2f})"
        rows = ((key.metric, unit), *EVIDENCE.get(key.metric, ()))
        return Verdict(
            reached, shown, "; ".join(filter(None, (_side_by_side(results, key, peer, *row) for row in rows)))
        )

    return judge


def _side_by_side(results: Results, key: Key, peer: str, metric: str, unit: Unit) -> str:
    """Return a metric of both, empty where it was not measured."""
    figures = ((name, results.figure(Key(key.scenario, key.case, metric, name))) for name in (key.peer, peer))
    shown = ", ".join(f"{name} {unit.write(found.median)}" for name, found in figures if found)
    return f"{metric}: {shown}" if shown else ""


def _at_most(key: Key, most: float, unit: Unit, calm: Key | None = None) -> Judge:
    """Judge our figure; `calm` is what the same measurement shows where there is nothing to wait for."""

    def judge(results: Results) -> Verdict:
        mine = results.figure(key)
        if mine is None:
            return NOT_MEASURED
        before = results.figure(calm) if calm is not None else None
        beside = f", in place of {unit.write(before.median)} calm" if before is not None else ""
        return Verdict(mine.median <= most, mine.text(unit) + beside, _others(results, key, unit))

    return judge


def _always_at_most(key: Key, most: float, unit: Unit) -> Judge:
    """Judge our slowest round, which of twenty is the 99th percentile."""

    def judge(results: Results) -> Verdict:
        mine = results.figure(key)
        if mine is None:
            return NOT_MEASURED
        return Verdict(mine.high <= most, mine.text(unit))

    return judge


def _more_by_at_most(calm: Key, meanwhile: Key, most: float, unit: Unit) -> Judge:
    """Judge by how much a figure grows meanwhile."""

    def judge(results: Results) -> Verdict:
        before, after = results.figure(calm), results.figure(meanwhile)
        if before is None or after is None:
            return NOT_MEASURED
        shown = f"{unit.write(after.median)} in place of {unit.write(before.median)}"
        return Verdict(after.median - before.median <= most, shown)

    return judge


def _at_least(key: Key, least: float, unit: Unit) -> Judge:
    def judge(results: Results) -> Verdict:
        mine = results.figure(key)
        if mine is None:
            return NOT_MEASURED
        return Verdict(mine.median >= least, mine.text(unit), _others(results, key, unit))

    return judge


def _others(results: Results, key: Key, unit: Unit) -> str:
    keys = [found for found in results.rounds if (found.scenario, found.case, found.metric) == _place(key)]
    figures = ((found.peer, results.figure(found)) for found in keys if found.peer != key.peer)
    return ", ".join(f"{peer} {unit.write(figure.median)}" for peer, figure in figures if figure)


def _place(key: Key) -> tuple[str, str, str]:
    return key.scenario, key.case, key.metric


def _growth(few: Key, many: Key, most: float, unit: Unit = MICROSECONDS) -> Judge:
    """Judge how a cost grows with the number of sockets, or with what goes on meanwhile."""

    def judge(results: Results) -> Verdict:
        ratio, first, last = results.ratio(many, few), results.figure(few), results.figure(many)
        if ratio is None or first is None or last is None:
            return NOT_MEASURED
        shown = f"{ratio.median:.2f} × ({ratio.low:.2f} .. {ratio.high:.2f})"
        figures = ((few, first), (many, last))
        why = "; ".join(f"{key.case}, {key.metric}: {unit.write(figure.median)}" for key, figure in figures)
        return Verdict(ratio.median <= most, shown, why)

    return judge


def _refused(results: Results) -> Verdict:
    outcome = results.remarks.get(INBOUND)
    if outcome is None:
        return NOT_MEASURED
    return Verdict(outcome.startswith("refused"), outcome)


def _room(members: int, metric: str) -> Key:
    return _key(fanout.NAME, fanout.case(members), metric)


def _small_rooms() -> tuple[Target, ...]:
    """Return the targets of small rooms, in which a publish costs more than its deliveries."""
    rows = []
    for members in (2, 5, 10):
        key = _room(members, fanout.SINGLE)
        rows += [
            Target(
                f"fan-out, room of {members}, single events", "at least 1.0 × Node", _times(key, "node", 1, unit=RATE)
            ),
            Target("the same", "at least 0.8 × Node with eiows", _times(key, "node-eiows", 0.8, unit=RATE)),
        ]
    return tuple(rows)


def _history() -> tuple[Target, ...]:
    """Return the targets of what a history costs when nothing goes wrong."""

    def times(key: Key, unit: Unit, least: float | None = None, most: float | None = None) -> Judge:
        return _times(replace(key, peer=HISTORY), OURS, least, most, unit)

    rows = []
    for members in (10, 1_000):
        for metric, events, least in ((fanout.SINGLE, "single events", 0.95), (fanout.BURSTS, "bursts of 50", 0.9)):
            title = f"a history in memory: fan-out, room of {members:,}, {events}"
            rows.append(Target(title, f"at least {least:g} × without", times(_room(members, metric), RATE, least)))
    for key in (ALONE_IN_PROCESS, SENDING_IN_PROCESS):
        title = f"a history in memory: own CPU of a publish in-process, {key.case}"
        rows.append(Target(title, "at most 1.1 × without", times(key, MICROSECONDS, most=1.1)))
    title, kept = "a history in memory: idle memory per connection", replace(IDLE, peer=HISTORY)
    rows.append(Target(title, "at most 4 kB", _at_most(kept, 4_000, KILOBYTES)))
    title = "a history in memory: server CPU per connect+join"
    return (*rows, Target(title, "at most 1.05 × without", times(COOKIE, MICROSECONDS, most=1.05)))


def _latencies() -> tuple[Target, ...]:
    """Return the targets of latency at two rates."""
    rows = []
    for rate in (2_000, 20_000):
        for number, metric in enumerate((latency.P50, latency.P99)):
            key = _key(latency.NAME, latency.case(rate), metric)
            title = "the same" if number else f"latency at {rate:,} deliveries/s"
            rows.append(Target(title, f"{metric} not above Node's", _times(key, "node", most=1, unit=MILLISECONDS)))
    return tuple(rows)


SINGLE, BURSTS = _room(1_000, fanout.SINGLE), _room(1_000, fanout.BURSTS)
REQUESTS, ARRAYS = (_key(publishing.NAME, publishing.CASE, metric) for metric in (publishing.SINGLE, publishing.ARRAYS))
ALONE_IN_PROCESS, SENDING_IN_PROCESS = (
    _key(in_process.NAME, in_process.case(members), in_process.OWN) for members in (0, in_process.MEMBERS)
)
HEARTBEATS = _key(heartbeats.NAME, heartbeats.case(10_000), heartbeats.CPU)
IDLE = _key(idle.NAME, idle.case(10_000), idle.PSS)
COOKIE = _key(joining.NAME, joining.case(3_000, "cookie"), joining.CPU)
STORED = _key(joining.NAME, joining.case(3_000, "mongodb"), joining.CPU)
FEW, MANY = (_key(leaving.NAME, leaving.case(number), leaving.CPU) for number in (1_000, 15_000))
INBOUND = _key(inbound.NAME, inbound.CASE, inbound.DURING)
KEPT, MEMORY = (_key(slow.NAME, slow.case(1_000, 100), metric) for metric in (slow.KEPT, slow.GROWTH))
LAST, CALM, MEANWHILE = (
    _key(access.NAME, access.evicted(1_000), metric) for metric in (access.LAST, access.CALM, access.MEANWHILE)
)
TURN, SWEEP, BEFORE_SWEEP = (
    _key(access.NAME, access.swept(15_000), metric) for metric in (access.TURN, access.PING_SWEEP, access.PING_CALM)
)
ANSWERED, QUERIES, ALONE, BESIDE = (
    _key(access.NAME, access.joined(500), metric)
    for metric in (access.ANSWERED, access.QUERIES, access.LATEST_CALM, access.LATEST_JOINING)
)
DELIVERED, REPEATS, REPLAY = (
    _key(recovery.NAME, recovery.case(1_000), metric) for metric in (recovery.DELIVERED, recovery.REPEATS, recovery.P99)
)
BEHIND = _key(backend.NAME, backend.case(1_000), backend.P99)


def _restart(clients: int, what: str) -> tuple[Target, ...]:
    """Return the targets of clients that come back after a restart."""
    lost, repeats, back = (
        _key(restarts.NAME, restarts.case(clients, what), metric)
        for metric in (restarts.LOST, restarts.REPEATS, restarts.BACK)
    )
    return (
        Target(restarts.case(clients, what), "no event lost", _at_most(lost, 0, COUNT)),
        Target("the same", "no repeats", _at_most(repeats, 0, COUNT)),
        Target("the same", "all back within 10 s", _at_most(back, 10, SECONDS)),
    )


TARGETS = (
    *_small_rooms(),
    Target(
        "fan-out, room of 10, bursts of 50",
        "at least 1.5 × Node",
        _times(_room(10, fanout.BURSTS), "node", 1.5, unit=RATE),
    ),
    Target("fan-out, room of 1,000, single events", "at least 2 × Node", _times(SINGLE, "node", 2.0, unit=RATE)),
    Target("the same", "at least 5 × stock", _times(SINGLE, "stock", 5.0, unit=RATE)),
    Target("the same", "at least 0.75 × the C loop", _times(SINGLE, "c", 0.75, unit=RATE)),
    Target("fan-out, room of 1,000, bursts of 50", "at least 5 × Node", _times(BURSTS, "node", 5.0, unit=RATE)),
    Target(
        "publishing over REST, one event a request", "at least 1.3 × Node", _times(REQUESTS, "node", 1.3, unit=RATE)
    ),
    Target("publishing over REST, 100 a request", "at least 1.5 × Node", _times(ARRAYS, "node", 1.5, unit=RATE)),
    Target(
        "own CPU of a publish in-process", "no members: at most 20 us", _at_most(ALONE_IN_PROCESS, 20e-6, MICROSECONDS)
    ),
    Target(
        "the same",
        "10 members: at most 60 us, and the kernel's sends",
        _at_most(SENDING_IN_PROCESS, 60e-6, MICROSECONDS),
    ),
    *_latencies(),
    *_history(),
    Target("idle memory per connection at 10,000", "at most 4 kB", _at_most(IDLE, 4_000, KILOBYTES)),
    Target("idle CPU per connection at 10,000", "at most 2.2 us a second", _at_most(HEARTBEATS, 2.2e-6, MICROSECONDS)),
    Target("server CPU per connect+join", "at most 0.9 × Node's", _times(COOKIE, "node", most=0.9, unit=MICROSECONDS)),
    Target(
        "server CPU per connect+join, sessions in MongoDB",
        "at most 0.7 × Node's",
        _times(STORED, "node", most=0.7, unit=MICROSECONDS),
    ),
    Target("server CPU per disconnect, 15,000 sockets", "at most 1.5 × that at 1,000", _growth(FEW, MANY, 1.5)),
    Target("one inbound message of 900 kB", "refused", _refused),
    Target("the same", "others delayed by at most 5 ms", _at_most(INBOUND, 5e-3, MILLISECONDS)),
    Target("100 stalled in a room of 1,000", "the rest keep 90 % of the rate", _at_least(KEPT, 0.9, SHARE)),
    Target("the same", "memory grows by less than 120 MiB", _at_most(MEMORY, 120 * 2**20, MEBIBYTES)),
    Target(
        "a right taken from 1,000 members", "the last is out within 1 s (p99)", _always_at_most(LAST, 1.0, MILLISECONDS)
    ),
    Target("the same", "p99 of 1,000 others at most 1.5 × calm", _growth(CALM, MEANWHILE, 1.5, MILLISECONDS)),
    Target(
        "a sweep over 15,000 members",
        "holds the loop for at most 5 ms at a time",
        _always_at_most(TURN, 5e-3, MILLISECONDS),
    ),
    Target("the same", "a ping is answered within 5 ms", _at_most(SWEEP, 5e-3, MILLISECONDS, BEFORE_SWEEP)),
    Target("500 rooms joined in one go, cold", "answered within 1 s", _at_most(ANSWERED, 1.0, MILLISECONDS)),
    Target("the same", "at most 20 queries", _at_most(QUERIES, 20, COUNT)),
    Target("the same", "an event of others at most 50 ms later", _more_by_at_most(ALONE, BESIDE, 50e-3, MILLISECONDS)),
    Target("1,000 clients that are dropped every 15 s", "delivered 100.00 %", _at_least(DELIVERED, 1.0, COMPLETENESS)),
    Target("the same", "no repeats", _at_most(REPEATS, 0, COUNT)),
    Target("the same", "p99 of a replay not above Node's", _times(REPLAY, "node", most=1.0, unit=MILLISECONDS)),
    *_restart(1_000, restarts.MONGODB),
    *_restart(1_000, restarts.REDIS),
    *_restart(1_000, restarts.ONE_OF_TWO),
    *_restart(2_000, restarts.ROLLING),
    Target(
        "1,000 messages/s of a 3D Repo backend",
        "p99 not above Node's",
        _times(BEHIND, "node", most=1.0, unit=MILLISECONDS),
    ),
)
