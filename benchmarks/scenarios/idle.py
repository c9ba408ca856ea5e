"""Idle memory: what a connection costs that has a session and a room, and does nothing."""

from __future__ import annotations

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import KILOBYTES
from benchmarks.peers import HISTORY
from benchmarks.process import memory_bytes
from benchmarks.scenarios.scenario import IDLE_AT_TIMES, Scenario

NAME = "idle memory"
PSS, RSS = "memory per connection", "the same, resident"
KINDS = {PSS: "Pss", RSS: "Rss"}


def case(connections: int) -> str:
    """Return how so many connections are called."""
    return f"{connections:,} connections"


def run(bench: Bench) -> None:
    """Measure each peer anew in each round: a process does not give memory back."""
    for _ in range(bench.rounds):
        for peer in bench.peers:
            with bench.alone(peer) as contestant:
                if contestant is not None:
                    _measure(bench, contestant)
            bench.step()


def _measure(bench: Bench, contestant: Contestant) -> None:
    count = bench.sizes.idle
    # What the first connection loads or allocates for all is no connection's own.
    contestant.grow(1)
    contestant.settle()
    before = {metric: memory_bytes(contestant.server.pid, kind) for metric, kind in KINDS.items()}
    contestant.grow(count + 1)
    contestant.settle()
    for metric, kind in KINDS.items():
        after = memory_bytes(contestant.server.pid, kind)
        bench.add(NAME, case(count), metric, contestant.peer, (after - before[metric]) / count)


SCENARIO = Scenario(
    name=NAME,
    title="Idle memory",
    how="A fresh server in each round. Its memory (`Pss` of smaps_rollup) with one connection is taken from that with "
    "all of them, each with a Socket.IO session and in one room, once it is idle, and divided by their number. The "
    "kernel's socket buffers are not in it, and are the same for all.",
    metrics={PSS: KILOBYTES, RSS: KILOBYTES},
    plotted=(PSS,),
    steps=lambda _: 1,
    run=run,
    only=(*IDLE_AT_TIMES, HISTORY),
    most_rounds=2,
)
