"""The storm before a deploy: many connections end at once, among few or many others."""

from __future__ import annotations

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import MICROSECONDS
from benchmarks.load.audience import Audience
from benchmarks.scenarios.scenario import IDLE_AT_TIMES, Scenario

NAME = "disconnect"
CPU = "server CPU per disconnect"


def case(sockets: int) -> str:
    """Return how a server with so many sockets is called."""
    return f"{sockets:,} sockets"


def run(bench: Bench) -> None:
    """Measure at each number of sockets; who left comes back before the next round."""
    with bench.started() as contestants:
        for sockets in bench.sizes.sockets:
            for contestant in contestants:
                contestant.grow(sockets)
            for contestant in bench.turns(contestants):
                _measure(bench, contestant)


def _measure(bench: Bench, contestant: Contestant) -> None:
    count, members = bench.sizes.batch, contestant.members
    contestant.settle()
    before = contestant.cpu()
    contestant.load.call(Audience.leave, count)
    contestant.settle()
    bench.add(NAME, case(members), CPU, contestant.peer, (contestant.cpu() - before) / count)
    contestant.members -= count
    contestant.grow(members)


SCENARIO = Scenario(
    name=NAME,
    title="Disconnect storm",
    how="Of so many sockets in one room, 500 (in the full run) end at once, without a word, and come back before the "
    "next round. The CPU time counts until the server is idle again.",
    metrics={CPU: MICROSECONDS},
    plotted=(CPU,),
    steps=lambda sizes: len(sizes.sockets),
    run=run,
    only=IDLE_AT_TIMES,
)
