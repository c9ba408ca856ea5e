"""Publishing over REST: how many events a second come in."""

from __future__ import annotations

import json

from benchmarks.bench import DRAIN_SECONDS, QUIET_SECONDS, Bench, Contestant
from benchmarks.figures import MICROSECONDS, PER_SECOND
from benchmarks.load.audience import Audience
from benchmarks.load.requests import Repeated, post_request, repeat
from benchmarks.peers import HOST, ROOM
from benchmarks.scenarios.scenario import Scenario

NAME = "publish rate"
CASE = "room of 10"
MEMBERS, CONNECTIONS, ARRAY = 10, 8, 100
SINGLE, ARRAYS = "events/s, one a request", f"events/s, {ARRAY} a request"
SINGLE_CPU, ARRAYS_CPU = "server CPU per event, one a request", f"server CPU per event, {ARRAY} a request"
EVENT = {"type": "ModelSettingsUpdated", **ROOM, "kind": "container", "data": {"name": "Structure"}}


def run(bench: Bench) -> None:
    """Measure requests of one event, and of an array."""
    with bench.started() as contestants:
        for contestant in contestants:
            contestant.grow(MEMBERS)
        for contestant in bench.turns(contestants):
            for rate, cpu, body, events in (
                (SINGLE, SINGLE_CPU, EVENT, 1),
                (ARRAYS, ARRAYS_CPU, [EVENT] * ARRAY, ARRAY),
            ):
                found, used = _requests(bench, contestant, body)
                bench.add(NAME, CASE, rate, contestant.peer, events * found.answers / found.seconds)
                bench.add(NAME, CASE, cpu, contestant.peer, used / (events * found.answers))


def _requests(bench: Bench, contestant: Contestant, body: object) -> tuple[Repeated, float]:
    """Return what was answered, and the server's CPU time in seconds."""
    port = contestant.server.port
    request = post_request(HOST, port, "/notify/events", json.dumps(body).encode(), bench.config.api_key)
    # The members read meanwhile: a member that does not is disconnected some time.
    reading = contestant.load.start(Audience.drain, -1, DRAIN_SECONDS, QUIET_SECONDS)
    cpu = contestant.cpu()
    found = repeat(HOST, port, request, CONNECTIONS, bench.sizes.publish_seconds)
    reading.result()
    return found, contestant.cpu() - cpu


SCENARIO = Scenario(
    name=NAME,
    title="Publish rate over REST",
    how=f"`POST /notify/events` over {CONNECTIONS} connections that stay open, one request at a time on each, with one "
    f"event and with an array of {ARRAY}; each event goes to a room of {MEMBERS}.",
    metrics={SINGLE: PER_SECOND, ARRAYS: PER_SECOND, SINGLE_CPU: MICROSECONDS, ARRAYS_CPU: MICROSECONDS},
    plotted=(SINGLE, ARRAYS),
    steps=lambda _: 1,
    run=run,
)
