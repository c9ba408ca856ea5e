"""Latency: how old an event is when it arrives, at fixed rates."""

from __future__ import annotations

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import BUSY, MICROSECONDS, MILLISECONDS
from benchmarks.peers import Order
from benchmarks.scenarios.scenario import Scenario

NAME = "latency"
P50, P99, SERVER_BUSY = "p50", "p99", "server busy"
CPU = "server CPU per delivery"
FILL = 16


def case(rate: int) -> str:
    """Return how a rate is called."""
    return f"{rate:,} deliveries/s"


def run(bench: Bench) -> None:
    """Measure each rate in one room."""
    with bench.started() as contestants:
        for contestant in contestants:
            contestant.grow(bench.sizes.rate_room)
            contestant.calibrate(FILL)
        for rate in bench.sizes.rates:
            for contestant in bench.turns(contestants):
                _measure(bench, contestant, rate)


def _measure(bench: Bench, contestant: Contestant, rate: int) -> None:
    per_second = rate / contestant.members
    events = max(2, round(per_second * bench.sizes.rate_seconds))
    order = Order(events, interval_ns=round(1e9 / per_second), fill=FILL)
    traffic = contestant.publish(order, ages=events * contestant.members)
    ages = sorted(traffic.drained.ages)
    for metric, share in ((P50, 0.5), (P99, 0.99)):
        bench.add(NAME, case(rate), metric, contestant.peer, ages[int(share * (len(ages) - 1))] / 1e9)
    bench.add(NAME, case(rate), SERVER_BUSY, contestant.peer, traffic.cpu / traffic.seconds)
    bench.add(NAME, case(rate), CPU, contestant.peer, traffic.cpu / (events * contestant.members))


SCENARIO = Scenario(
    name=NAME,
    title="Latency",
    how="The server publishes to one room at a fixed rate. Each event carries when it was due, so that a server which "
    "falls behind shows it; the reader takes its age (CLOCK_MONOTONIC) at each client when it arrives there.",
    metrics={P50: MILLISECONDS, P99: MILLISECONDS, SERVER_BUSY: BUSY, CPU: MICROSECONDS},
    plotted=(P99,),
    steps=lambda sizes: len(sizes.rates),
    run=run,
)
