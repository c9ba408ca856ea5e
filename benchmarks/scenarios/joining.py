"""The storm after a deploy: everybody connects and joins at once."""

from __future__ import annotations

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import MICROSECONDS, PER_SECOND
from benchmarks.load.audience import Audience
from benchmarks.scenarios.scenario import Scenario

NAME = "connect+join"
CPU, RATE = "server CPU per connect+join", "connects+joins/s"


def case(clients: int) -> str:
    """Return how a storm of that size is called."""
    return f"{clients:,} clients"


def run(bench: Bench) -> None:
    """Measure storms, each after a first client that warms the permissions' cache."""
    with bench.started() as contestants:
        for contestant in bench.turns(contestants):
            _measure(bench, contestant)


def _measure(bench: Bench, contestant: Contestant) -> None:
    count = bench.sizes.storm
    contestant.load.call(Audience.connect, contestant.script, 1)
    contestant.settle()
    before = contestant.cpu()
    seconds = contestant.load.call(Audience.connect, contestant.script, count)
    contestant.settle()
    bench.add(NAME, case(count), CPU, contestant.peer, (contestant.cpu() - before) / count)
    bench.add(NAME, case(count), RATE, contestant.peer, count / seconds)
    contestant.load.call(Audience.leave, count + 1)
    contestant.settle()


SCENARIO = Scenario(
    name=NAME,
    title="Connect and join storm",
    how="Clients connect (64 on their way at once), each with the session cookie of a user who may read the model, and "
    "join its room at once; permissions are in MongoDB and cached for 3 seconds by each peer, and the cache is warm. "
    "Sessions ask no store: Flask's signed cookie on one side, express-session's signed id with sessions in memory on "
    "the other. The CPU time counts until the server is idle again.",
    metrics={CPU: MICROSECONDS, RATE: PER_SECOND},
    plotted=(CPU,),
    steps=lambda _: 1,
    run=run,
)
