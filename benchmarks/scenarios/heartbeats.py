"""Idle CPU: what connections cost that do nothing but answer the server's pings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import MICROSECONDS
from benchmarks.load.audience import Audience, LoadError
from benchmarks.scenarios.scenario import Scenario

NAME = "idle CPU"
CPU = "server CPU per connection and second"
# Of the pings that are due in that time: one of a connection may fall just outside of it.
LEAST_ANSWERED = 0.5
SLICE_SECONDS = 0.5


def case(connections: int) -> str:
    """Return how so many connections are called."""
    return f"{connections:,} connections"


def run(bench: Bench) -> None:
    """Measure all peers at once: what they do is next to nothing, and takes long."""
    sizes = bench.sizes
    config = replace(bench.config, ping_seconds=sizes.heartbeat_seconds)
    count, due = sizes.idle, sizes.idle * sizes.idle_seconds / sizes.heartbeat_seconds
    with bench.started(config=config) as contestants:
        _enter(contestants, count)
        # Uncounted: connections have just come, and Node compiles what runs often.
        _answer(contestants, sizes.heartbeat_seconds)
        for _ in range(bench.rounds):
            for contestant, (pings, cpu) in zip(contestants, _answer(contestants, sizes.idle_seconds), strict=True):
                if pings < LEAST_ANSWERED * due:
                    raise LoadError(f"{contestant.peer.name}: {pings} pings came where {due:g} were due")
                bench.add(NAME, case(count), CPU, contestant.peer, cpu / count / sizes.idle_seconds)
                bench.step()


def _enter(contestants: list[Contestant], count: int) -> None:
    """Connect the clients of all peers at once; who has all of them answers pings until the others have, too."""
    entering = {contestant.peer.name for contestant in contestants}

    def enter(contestant: Contestant) -> None:
        try:
            contestant.load.call(Audience.connect, contestant.script, count)
        finally:
            entering.discard(contestant.peer.name)
        while entering:
            contestant.load.call(Audience.answer_pings, SLICE_SECONDS)

    with ThreadPoolExecutor(len(contestants) or 1) as pool:
        for _ in pool.map(enter, contestants):
            pass


def _answer(contestants: list[Contestant], seconds: float) -> list[tuple[int, float]]:
    """Have all answer pings for so long; return of each how many there were, and its server's CPU time in seconds."""
    before = [contestant.cpu() for contestant in contestants]
    answering = [contestant.load.start(Audience.answer_pings, seconds) for contestant in contestants]
    answered = [one.result() for one in answering]
    return [
        (pings, contestant.cpu() - cpu) for pings, contestant, cpu in zip(answered, contestants, before, strict=True)
    ]


SCENARIO = Scenario(
    name=NAME,
    title="Idle CPU",
    how="All peers at once, with heartbeats as they are by default, every 25 s: so many connections with a session, in "
    "one room, answer the server's pings and do nothing else. The CPU time of one interval is divided by connections "
    "and seconds; a round is one interval, and the first is not counted. What a service does beside its heartbeats is "
    "in it, such as ours asking again for everybody's rights every 30 s.",
    metrics={CPU: MICROSECONDS},
    plotted=(CPU,),
    steps=lambda _: 1,
    run=run,
    most_rounds=2,
)
