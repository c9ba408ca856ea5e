"""Fan-out: how many deliveries a second one room takes."""

from __future__ import annotations

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import BUSY, MICROSECONDS, PER_SECOND
from benchmarks.peers import HISTORY, Order
from benchmarks.scenarios.scenario import PLAIN, Scenario

NAME = "fan-out"
BURST = 50
SINGLE, BURSTS = "deliveries/s, single events", f"deliveries/s, bursts of {BURST}"
SINGLE_CPU, BURST_CPU = "server CPU per delivery, single events", f"server CPU per delivery, bursts of {BURST}"
SINGLE_BUSY = "server busy, single events"
FILL = 16


def case(members: int) -> str:
    """Return how a room of that size is called."""
    return f"room of {members:,}"


def run(bench: Bench) -> None:
    """Measure each size of room, single events and bursts."""
    with bench.started(only_serving=False) as everybody:
        for members in bench.sizes.rooms:
            with_history = members in bench.sizes.history_rooms
            contestants = [found for found in everybody if with_history or not found.peer.with_history]
            for contestant in contestants:
                contestant.grow(members)
            _calibrate(contestants)
            for contestant in contestants:
                # Uncounted: Node compiles what runs often.
                contestant.publish(Order(_events(bench, members, bench.sizes.deliveries // 4), fill=FILL))
            for contestant in bench.turns(contestants):
                _measure(bench, contestant, 1, bench.sizes.deliveries)
            for contestant in bench.turns(contestants):
                _measure(bench, contestant, BURST, bench.sizes.burst_deliveries)


def _calibrate(contestants: list[Contestant]) -> None:
    """The C loop sends what the first service sends, to the byte."""
    frame = 0
    for contestant in contestants:
        contestant.calibrate(FILL, frame or 200)
        frame = frame or contestant.frame


def _events(bench: Bench, members: int, deliveries: int) -> int:
    """Return how many events make so many deliveries, or as many as a small room is to get."""
    return max(1, min(deliveries // members, bench.sizes.events))


def _measure(bench: Bench, contestant: Contestant, burst: int, deliveries: int) -> None:
    events = max(1, _events(bench, contestant.members, deliveries) // burst) * burst
    traffic = contestant.publish(Order(events, burst, fill=FILL))
    delivered = events * contestant.members
    rate, cpu = (SINGLE, SINGLE_CPU) if burst == 1 else (BURSTS, BURST_CPU)
    where = case(contestant.members)
    bench.add(NAME, where, rate, contestant.peer, delivered / traffic.seconds)
    bench.add(NAME, where, cpu, contestant.peer, traffic.cpu / delivered)
    if burst == 1:
        bench.add(NAME, where, SINGLE_BUSY, contestant.peer, traffic.cpu / traffic.seconds)


SCENARIO = Scenario(
    name=NAME,
    title="Fan-out",
    how="The server publishes events to one room as fast as it can: single events, each in a turn of its loop of its "
    f"own, and bursts of {BURST} in one turn. The time runs from the first event to the last byte at the last client. "
    "The C loop sends frames of the same length over as many sockets, a burst in one `send()` per socket; its reader "
    "is the same, so it shows also what the clients can take. With a history an event has its position behind it.",
    metrics={
        SINGLE: PER_SECOND,
        BURSTS: PER_SECOND,
        SINGLE_CPU: MICROSECONDS,
        BURST_CPU: MICROSECONDS,
        SINGLE_BUSY: BUSY,
    },
    plotted=(SINGLE, BURSTS),
    steps=lambda sizes: 2 * len(sizes.rooms),
    run=run,
    only=(*PLAIN, HISTORY),
)
