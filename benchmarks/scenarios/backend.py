"""Behind a 3D Repo backend: how old a message of its exchange is when it arrives at the clients."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import DRAIN_SECONDS, Bench, Contestant
from benchmarks.figures import MILLISECONDS, SHARE
from benchmarks.load.audience import Audience, LoadError
from benchmarks.load.exchange import Said, publish
from benchmarks.load.process import LoadProcess
from benchmarks.peers import READER
from benchmarks.scenarios.scenario import Scenario
from repo_notify.testing.teamspaces import Teamspace

NAME = "backend"
P50, P99, BUSY = "p50", "p99", "server busy"
SMALL_ROOM = 10
FILL = 200
# Longer than the backend takes to connect.
QUIET_SECONDS = 1.5


def case(rate: int) -> str:
    """Return how a rate is called."""
    return f"{rate:,} messages/s to rooms of {SMALL_ROOM}"


@contextmanager
def rabbitmq() -> Iterator[str | None]:
    """Run a RabbitMQ node for the length of the block; None where it is not installed."""
    from tests.support import brokers

    if not all(map(shutil.which, (brokers.RABBITMQ, "epmd"))):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, brokers.rabbitmq(Path(folder)) as url:
        yield url


def run(bench: Bench) -> None:
    """Measure each peer with its own clients, at one exchange each."""
    with rabbitmq() as url:
        if url is None:
            bench.results.left_out[NAME] = "RabbitMQ is not installed"
            return
        with bench.teamspace() as teamspace, LoadProcess() as backend:
            _measure_all(bench, url, teamspace, backend)


def _measure_all(bench: Bench, url: str, teamspace: Teamspace, backend: LoadProcess) -> None:
    sizes = bench.sizes
    models = [teamspace.model({READER: "viewer"}) for _ in range(sizes.backend_rooms)]
    project = teamspace.project(models)
    places = [{"teamspace": teamspace.name, "project": project, "model": model} for model in models]
    messages = max(2, round(sizes.backend_rate * sizes.backend_seconds))
    # One after the other: at an exchange that all consume each would have the others' work to wait for.
    for peer in bench.peers:
        exchange = f"{NAME}-{peer.name}"
        config = replace(bench.config, recovery=True, backend_queue=url, backend_exchange=exchange)
        said = Said(url, exchange, places, messages, round(1e9 / sizes.backend_rate), FILL)
        with bench.alone(peer, config) as contestant:
            if contestant is not None:
                for place in places:
                    contestant.load.call(Audience.connect, contestant.script_into(place), SMALL_ROOM)
                # Uncounted: a server compiles what runs often.
                _deliver(contestant, backend, said)
                for _ in bench.turns([contestant]):
                    _measure(bench, contestant, backend, said)


def _measure(bench: Bench, contestant: Contestant, backend: LoadProcess, said: Said) -> None:
    ages, busy = _deliver(contestant, backend, said)
    where = case(bench.sizes.backend_rate)
    for metric, share in ((P50, 0.5), (P99, 0.99)):
        bench.add(NAME, where, metric, contestant.peer, ages[int(share * (len(ages) - 1))] / 1e9)
    bench.add(NAME, where, BUSY, contestant.peer, busy)


def _deliver(contestant: Contestant, backend: LoadProcess, said: Said) -> tuple[list[int], float]:
    """Have the backend publish; return the ages of all deliveries in ns, and how busy the server was."""
    want = said.messages * SMALL_ROOM
    contestant.settle()
    cpu = contestant.cpu()
    publishing = backend.begin(publish, said)
    # Whatever else comes, such as positions, has no fixed number of bytes.
    drained = contestant.load.call(Audience.drain, -1, DRAIN_SECONDS, QUIET_SECONDS, want)
    busy = (contestant.cpu() - cpu) / (drained.finished - publishing.result()) * 1e9
    if len(drained.ages) < want:
        raise LoadError(f"{contestant.peer.name}: of {want} deliveries {len(drained.ages)} arrived")
    return sorted(drained.ages), busy


SCENARIO = Scenario(
    name=NAME,
    title="Behind a 3D Repo backend",
    how="Ours and Node, each in the place of a 3D Repo backend's chat service: a backend publishes to a RabbitMQ "
    "exchange at a fixed rate, to rooms of ten in turn, and the service passes each message on. Each carries when it "
    "was due; the reader takes its age at each client. Both keep what clients that come back have missed: ours its "
    "history, Node `connectionStateRecovery` (in-memory adapter, 120 s). RabbitMQ, the backend, the server and its "
    "clients share the machine. Measured one peer after the other, after as many messages that do not count.",
    metrics={P50: MILLISECONDS, P99: MILLISECONDS, BUSY: SHARE},
    plotted=(P99,),
    steps=lambda _: 1,
    run=run,
    only=("ours", "node"),
)
