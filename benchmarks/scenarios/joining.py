"""The storm after a deploy: everybody connects and joins at once."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import MICROSECONDS, PER_SECOND
from benchmarks.load.audience import Audience
from benchmarks.peers import HISTORY, Sessions
from benchmarks.scenarios.scenario import IDLE_AT_TIMES, Scenario

NAME = "connect+join"
STORES: dict[Sessions, str] = {"cookie": "sessions without a store", "mongodb": "sessions in MongoDB"}
CPU, RATE = "server CPU per connect+join", "connects+joins/s"


def case(clients: int, sessions: Sessions) -> str:
    """Return how a storm of that size is called."""
    return f"{clients:,} clients, {STORES[sessions]}"


def run(bench: Bench) -> None:
    """Measure storms, each after a first client that warms the permissions' cache."""
    for sessions in STORES:
        with bench.started(config=replace(bench.config, sessions=sessions)) as contestants:
            for contestant in contestants:
                # Uncounted: Node compiles what runs often.
                _storm(contestant, bench.sizes.storm // 2)
            for contestant in bench.turns(contestants):
                _measure(bench, contestant, sessions)


def _measure(bench: Bench, contestant: Contestant, sessions: Sessions) -> None:
    count = bench.sizes.storm
    cpu, seconds = _storm(contestant, count)
    bench.add(NAME, case(count, sessions), CPU, contestant.peer, cpu / count)
    bench.add(NAME, case(count, sessions), RATE, contestant.peer, count / seconds)


def _storm(contestant: Contestant, count: int) -> tuple[float, float]:
    """Have so many clients come and go; return the server's CPU time of their coming, and how long it took them."""
    contestant.load.call(Audience.connect, contestant.script, 1)
    contestant.settle()
    before = contestant.cpu()
    seconds = contestant.load.call(Audience.connect, contestant.script, count)
    contestant.settle()
    cpu = contestant.cpu() - before
    contestant.load.call(Audience.leave, count + 1)
    contestant.settle()
    return cpu, seconds


SCENARIO = Scenario(
    name=NAME,
    title="Connect and join storm",
    how="Clients connect (64 on their way at once), each with the session cookie of a user who may read the model, and "
    "join its room at once; permissions are in MongoDB and cached for 3 seconds by each peer, and the cache is warm. "
    "Sessions ask no store in the first case: Flask's signed cookie on one side, express-session's signed id with "
    "sessions in memory on the other; in the second they are in MongoDB, with Flask-Session and connect-mongo. The CPU "
    "time counts until the server is idle again. A first storm of half the size is not counted.",
    metrics={CPU: MICROSECONDS, RATE: PER_SECOND},
    plotted=(CPU,),
    steps=lambda _: len(STORES),
    run=run,
    only=(*IDLE_AT_TIMES, HISTORY),
)
