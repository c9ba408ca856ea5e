"""Access that ends: how long it takes, and what the others notice. No peer has it: ours runs alone."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic, monotonic_ns, sleep
from typing import cast

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import COUNT, MILLISECONDS
from benchmarks.load.audience import Audience, LoadError, Script
from benchmarks.load.drain import Drained
from benchmarks.load.frames import event_frame
from benchmarks.load.probe import slowest_answer
from benchmarks.load.process import LoadProcess
from benchmarks.load.rooms import join_rooms
from benchmarks.peers import READER, Order, Peer, WebServer
from benchmarks.scenarios.scenario import Scenario
from repo_notify.testing.teamspaces import Teamspace

NAME = "access"
LAST = "last eviction after the write"
CALM, MEANWHILE = "p99 of others, calm", "p99 of others meanwhile"
TURN, COLLECTION = "longest turn of the loop, sweeping", "longest garbage collection, sweeping"
PING_CALM, PING_SWEEP = "slowest answer to a ping, calm", "slowest answer to a ping, sweeping"
ANSWERED, QUERIES = "all rooms answered after", "queries"
LATEST_CALM, LATEST_JOINING = "latest event of others, calm", "latest event of others, joining"
FILL = 16
PER_SECOND = 20
# So that the events are under way when the right is taken.
AHEAD_SECONDS = 0.3
EVICTION_SECONDS = 30.0
# Longer than any pause between the evictions of one write; learns how long the word of one is.
QUIET_SECONDS = 3.0
UP_SECONDS = 30.0
UP = "repo_notify_change_stream_up 1.0"
SWEPT = re.compile(r'^repo_notify_revalidations_total\{.*cause="sweep".*\} (\S+)$', re.MULTILINE)
# A sweep begins a while after the end of the one before.
SWEEP_PAUSE_SECONDS = 0.5
FEW, FEW_EVENTS, FEW_INTERVAL_NS = 10, 200, 10_000_000


def evicted(members: int) -> str:
    """Return how a model whose members lose their right is called."""
    return f"{members:,} members evicted"


def swept(members: int) -> str:
    """Return how a sweep is called."""
    return f"sweep over {members:,}"


def joined(rooms: int) -> str:
    """Return how a teamspace is called whose rooms are joined in one go."""
    return f"{rooms:,} rooms in one go"


def run(bench: Bench) -> None:
    """Measure evictions, sweeps and joins one after the other, each on a fresh server."""
    ours = next(iter(bench.peers), None)
    if ours is not None:
        for measure in (_evictions, _sweeps, _joins):
            measure(bench, ours)


def _await_stream(contestant: Contestant) -> None:
    """Wait until the server watches the database, which its first client began."""
    deadline = monotonic() + UP_SECONDS
    while UP not in _server(contestant).ask("/notify/metrics").text:
        if monotonic() > deadline:
            raise LoadError("ours does not watch the database")
        sleep(AHEAD_SECONDS)


def _server(contestant: Contestant) -> WebServer:
    return cast("WebServer", contestant.server)


def _joining(contestant: Contestant, room: dict[str, str]) -> Script:
    """Return the script of somebody in another room than the scenario's others."""
    handshake = contestant.script.steps[:2]
    return replace(contestant.script, steps=(*handshake, (event_frame("join", room), b'42["message"')))


def _ages(contestant: Contestant, order: Order) -> list[int]:
    """Return the sorted ages of these events, in ns."""
    return sorted(contestant.publish(order, ages=order.events * contestant.members).drained.ages)


def _p99(ages: list[int]) -> float:
    return ages[int(0.99 * (len(ages) - 1))] / 1e9


def _evictions(bench: Bench, peer: Peer) -> None:
    sizes = bench.sizes
    order = Order(max(2, round(PER_SECOND * sizes.eviction_seconds)), interval_ns=round(1e9 / PER_SECOND), fill=FILL)
    with bench.teamspace() as teamspace, bench.alone(peer) as contestant, LoadProcess() as crowd:
        if contestant is None:
            return
        models = [teamspace.model({READER: "viewer"}) for _ in range(sizes.evictions + 1)]
        project = teamspace.project(models)
        contestant.grow(sizes.evicted)
        contestant.calibrate(FILL)
        _await_stream(contestant)
        word = 0
        for number, model in enumerate(models):
            room = {"teamspace": teamspace.name, "project": project, "model": model}
            crowd.call(Audience.connect, _joining(contestant, room), sizes.evicted)
            contestant.settle()
            calm = _p99(_ages(contestant, order))
            seconds, told, meanwhile = _evict(contestant, crowd, order, (teamspace, model), word * sizes.evicted)
            word = told.bytes // sizes.evicted
            crowd.call(Audience.leave, sizes.evicted)
            # The first tells how long the word to one member is.
            if number:
                for metric, value in ((LAST, seconds), (CALM, calm), (MEANWHILE, meanwhile)):
                    bench.add(NAME, evicted(sizes.evicted), metric, peer, value)
                bench.step()


def _evict(
    contestant: Contestant, crowd: LoadProcess, order: Order, model: tuple[Teamspace, str], want: int
) -> tuple[float, Drained, float]:
    """Take the right while others hear events; return the seconds to the last word, what came, and the others' p99."""
    teamspace, _id = model
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(_ages, contestant, order)
        sleep(min(AHEAD_SECONDS, order.events / PER_SECOND / 2))
        limit, quiet = EVICTION_SECONDS, -1.0 if want else QUIET_SECONDS
        reading = crowd.start(Audience.drain, want or -1, limit, quiet)
        started = monotonic_ns()
        teamspace.model({}, _id=_id)
        told = reading.result()
        ages = others.result()
    if not told.bytes or told.bytes < want:
        raise LoadError(f"of {want} bytes that tell of the end of access {told.bytes} arrived")
    return (told.finished - started) / 1e9, told, _p99(ages)


def _sweeps(bench: Bench, peer: Peer) -> None:
    sizes = bench.sizes
    with bench.alone(peer, replace(bench.config, recheck_seconds=SWEEP_PAUSE_SECONDS)) as contestant:
        if contestant is None:
            return
        calm = contestant.load.run(slowest_answer, contestant.script, sizes.sweep_seconds)
        contestant.grow(sizes.sweep_members)
        for _ in range(bench.rounds):
            before = _swept_so_far(contestant)
            _turns(contestant)
            sweeping = contestant.load.run(slowest_answer, contestant.script, sizes.sweep_seconds)
            turn, collection = _turns(contestant)
            if _swept_so_far(contestant) - before < sizes.sweep_members:
                raise LoadError("ours has not looked at everybody while it was watched")
            measured = ((TURN, turn), (COLLECTION, collection), (PING_CALM, calm), (PING_SWEEP, sweeping))
            for metric, value in measured:
                bench.add(NAME, swept(sizes.sweep_members), metric, peer, value)
            bench.step()


def _turns(contestant: Contestant) -> tuple[float, float]:
    """Return how long the server's longest turn and garbage collection were since it was asked last, in seconds."""
    turn, collection = _server(contestant).ask("/bench/turns").json()
    return turn, collection


def _swept_so_far(contestant: Contestant) -> float:
    """Return how many memberships its sweeps have looked at."""
    text = _server(contestant).ask("/notify/metrics").text
    return sum(float(count) for count in SWEPT.findall(text))


def _joins(bench: Bench, peer: Peer) -> None:
    rooms = bench.sizes.rooms_at_once
    order = Order(FEW_EVENTS, interval_ns=FEW_INTERVAL_NS, fill=FILL)
    with bench.alone(peer) as contestant, LoadProcess() as frontend:
        if contestant is None:
            return
        contestant.grow(FEW)
        contestant.calibrate(FILL)
        handshake = replace(contestant.script, steps=contestant.script.steps[:2])
        for _ in range(bench.rounds):
            # One that the server has never heard of.
            with bench.teamspace() as teamspace, ThreadPoolExecutor(1) as pool:
                models = [teamspace.model({READER: "viewer"}) for _ in range(rooms)]
                ids = {"teamspace": teamspace.name, "project": teamspace.project(models)}
                joins = b"".join(event_frame("join", {**ids, "model": model}) for model in models)
                contestant.settle()
                calm = _ages(contestant, order)[-1] / 1e9
                before = int(_server(contestant).ask("/bench/queries").json())
                others = pool.submit(_ages, contestant, order)
                sleep(AHEAD_SECONDS)
                seconds = frontend.run(join_rooms, handshake, joins, rooms)
                queries = int(_server(contestant).ask("/bench/queries").json()) - before
                latest = others.result()[-1] / 1e9
            found = ((ANSWERED, seconds), (QUERIES, queries), (LATEST_CALM, calm), (LATEST_JOINING, latest))
            for metric, value in found:
                bench.add(NAME, joined(rooms), metric, peer, value)
            bench.step()


SCENARIO = Scenario(
    name=NAME,
    title="Access that ends",
    how="Ours alone; no peer asks again after the join. Evictions: so many members of one model lose their right by "
    "one write to MongoDB, found by its change stream; the time from before the write to the last byte that tells a "
    "member so, 20 times (in the full run), while 20 events a second go to as many members of another room, whose p99 "
    "is taken before and meanwhile. The sweep: a WebSocket ping each millisecond, while everybody's right is asked for "
    "again and again, half a second after the end of the time before; calm is the same server with next to nobody in "
    "it. A turn goes from where the loop has waited to where it waits again, in CPU time of its thread, so that nobody "
    "else of the machine has a part in it; the garbage collections in it stand for themselves. Joins: one client joins "
    "every model of a teamspace that the server has never heard of, in one go; queries are those that the server sent "
    "to MongoDB meanwhile; 100 events a second go to ten others. All are one user.",
    metrics={
        LAST: MILLISECONDS,
        CALM: MILLISECONDS,
        MEANWHILE: MILLISECONDS,
        TURN: MILLISECONDS,
        COLLECTION: MILLISECONDS,
        PING_CALM: MILLISECONDS,
        PING_SWEEP: MILLISECONDS,
        ANSWERED: MILLISECONDS,
        QUERIES: COUNT,
        LATEST_CALM: MILLISECONDS,
        LATEST_JOINING: MILLISECONDS,
    },
    plotted=(LAST,),
    steps=lambda sizes: max(1, sizes.evictions // sizes.rounds) + 2,
    run=run,
    only=("ours",),
)
