"""Slow clients: what the others and the server's memory notice of members that do not read."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import MEBIBYTES, MICROSECONDS, PER_SECOND, SHARE, Key
from benchmarks.load.audience import Audience, Limits
from benchmarks.peers import Order
from benchmarks.process import peak_bytes, reset_peak
from benchmarks.scenarios.scenario import IDLE_AT_TIMES, Scenario

NAME = "slow clients"
CALM, RATE = "deliveries/s to the rest, all read", "deliveries/s to the rest, some stalled"
CALM_CPU, CPU = "server CPU per delivery, all read", "server CPU per delivery, some stalled"
KEPT, GROWTH = "rate kept", "memory growth"
# What an Ethernet carries, not the loopback device's 64 kB: with those the kernel takes megabytes for a stalled client.
STALLED = Limits(receive_buffer=4_096, segment=1_448)


def case(members: int, stalled: int) -> str:
    """Return how the room is called."""
    return f"{stalled} stalled in a room of {members:,}"


def run(bench: Bench) -> None:
    """Measure the rest of the room without and with the stalled clients, on a fresh server in each round."""
    for _ in range(bench.rounds):
        for peer in bench.peers:
            with bench.alone(peer) as contestant:
                if contestant is not None:
                    _measure(bench, contestant)
            bench.step()


def _measure(bench: Bench, contestant: Contestant) -> None:
    sizes = bench.sizes
    where, rest = case(sizes.slow_members, sizes.slow_stalled), sizes.slow_members - sizes.slow_stalled
    order = Order(sizes.slow_events, fill=sizes.slow_bytes)
    contestant.grow(sizes.slow_members)
    contestant.calibrate(order.fill)
    # Uncounted: Node compiles what runs often, and memory grows that no stalled client is to blame for.
    contestant.publish(replace(order, events=order.events // 2))
    before_stall = contestant.publish(order)
    contestant.load.call(Audience.leave, sizes.slow_stalled)
    contestant.members = rest
    contestant.load.call(Audience.stall, contestant.script, sizes.slow_stalled, STALLED)
    contestant.settle()
    reset_peak(contestant.server.pid)
    before = peak_bytes(contestant.server.pid)
    after_stall = contestant.publish(order)
    growth = peak_bytes(contestant.server.pid) - before
    ended = contestant.load.call(Audience.wake)
    key = Key(NAME, where, GROWTH, contestant.peer.name)
    bench.results.remarks[key] = f"{ended} of {sizes.slow_stalled} stalled clients had been disconnected"
    deliveries = order.events * rest
    found = {
        CALM: deliveries / before_stall.seconds,
        RATE: deliveries / after_stall.seconds,
        CALM_CPU: before_stall.cpu / (order.events * sizes.slow_members),
        CPU: after_stall.cpu / deliveries,
        KEPT: before_stall.seconds / after_stall.seconds,
        GROWTH: growth,
    }
    for metric, value in found.items():
        bench.add(NAME, where, metric, contestant.peer, value)


SCENARIO = Scenario(
    name=NAME,
    title="Slow clients",
    how="Events of 32 kB to a room in which all members read, then with stalled members in the place of some, which "
    "never read (receive buffer of 4 kB, segments of 1,448 bytes): the rate of the rest in both cases, and the most by "
    "which the server's resident memory has grown during the second. A fresh server in each round.",
    metrics={
        CALM: PER_SECOND,
        RATE: PER_SECOND,
        CALM_CPU: MICROSECONDS,
        CPU: MICROSECONDS,
        KEPT: SHARE,
        GROWTH: MEBIBYTES,
    },
    plotted=(GROWTH,),
    steps=lambda _: 1,
    run=run,
    only=IDLE_AT_TIMES,
    most_rounds=2,
)
