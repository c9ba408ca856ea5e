"""Publishing from the host's view: what a publish costs the process that makes it."""

from __future__ import annotations

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import MICROSECONDS
from benchmarks.peers import HISTORY, Generated, Order
from benchmarks.scenarios.scenario import PLAIN, Scenario

NAME = "publishing in-process"
OWN, KERNEL = "own CPU per publish", "the kernel's CPU per publish"
MEMBERS = 10
FILL = 16


def case(members: int) -> str:
    """Return how a room of that size is called."""
    return f"{members} members" if members else "no members"


def run(bench: Bench) -> None:
    """Measure an empty room, then one with members."""
    with bench.started() as contestants:
        for members in (0, MEMBERS):
            for contestant in contestants:
                if members:
                    contestant.grow(members)
                    contestant.calibrate(FILL)
                # Uncounted: Node compiles what runs often.
                _publish(contestant, bench.sizes.publishes)
            for contestant in bench.turns(contestants):
                found = _publish(contestant, bench.sizes.publishes)
                for metric, seconds in ((OWN, found.user), (KERNEL, found.system)):
                    bench.add(NAME, case(members), metric, contestant.peer, seconds / bench.sizes.publishes)


def _publish(contestant: Contestant, events: int) -> Generated:
    """Have it publish in a loop, and return what that took."""
    if contestant.members:
        return contestant.publish(Order(events, fill=FILL)).generated
    # To nobody nothing is sent: there is nothing to read, and no turn of the loop to wait for.
    return contestant.server.generate(Order(events, burst=events, fill=FILL), 0)


SCENARIO = Scenario(
    name=NAME,
    title="Publishing in-process",
    how="A request has the server publish so many events in a loop, by the call that a host's view makes, and answers "
    "with its CPU time (`getrusage`, `process.cpuUsage`): its own, and the kernel's, which is that of the sends. With "
    "members each event has a turn of the loop of its own, so that nothing is sent together.",
    metrics={OWN: MICROSECONDS, KERNEL: MICROSECONDS},
    plotted=(OWN,),
    steps=lambda _: 2,
    run=run,
    only=(*PLAIN, HISTORY),
)
