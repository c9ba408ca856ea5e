"""Idle CPU: what connections cost that do nothing but answer the server's pings."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import MICROSECONDS
from benchmarks.load.audience import Audience, LoadError
from benchmarks.scenarios.scenario import Scenario

NAME = "idle CPU"
CPU = "server CPU per connection and second"
# Of the pings that are due in that time: one of a connection may fall just outside of it.
LEAST_ANSWERED = 0.5


def case(connections: int) -> str:
    """Return how so many connections are called."""
    return f"{connections:,} connections"


def run(bench: Bench) -> None:
    """Measure each peer alone: the others' heartbeats would take the processor's caches from it."""
    config = replace(bench.config, ping_seconds=bench.sizes.heartbeat_seconds)
    for peer in filter(attrgetter("serves"), bench.peers):
        with bench.alone(peer, config) as contestant:
            if contestant is not None:
                _measure(bench, contestant)


def _measure(bench: Bench, contestant: Contestant) -> None:
    sizes = bench.sizes
    count, due = sizes.idle, sizes.idle * sizes.idle_seconds / sizes.heartbeat_seconds
    contestant.load.call(Audience.connect, contestant.script, count)
    # Uncounted: connections have just come, and Node compiles what runs often.
    contestant.load.call(Audience.answer_pings, sizes.heartbeat_seconds)
    for _ in range(bench.rounds):
        before = contestant.cpu()
        pings = contestant.load.call(Audience.answer_pings, sizes.idle_seconds)
        cpu = contestant.cpu() - before
        if pings < LEAST_ANSWERED * due:
            raise LoadError(f"{contestant.peer.name}: {pings} pings came where {due:g} were due")
        bench.add(NAME, case(count), CPU, contestant.peer, cpu / count / sizes.idle_seconds)
        bench.step()


SCENARIO = Scenario(
    name=NAME,
    title="Idle CPU",
    how="One peer after the other, with heartbeats as they are by default, every 25 s: so many connections with a "
    "session, in one room, answer the server's pings and do nothing else. The CPU time of one interval is divided by "
    "connections and seconds; a round is one interval, and the first is not counted. What a service does beside its "
    "heartbeats is in it, such as ours asking again for everybody's rights every 30 s.",
    metrics={CPU: MICROSECONDS},
    plotted=(CPU,),
    steps=lambda _: 1,
    run=run,
    most_rounds=2,
)
