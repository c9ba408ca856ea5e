"""Publishing over REST: how many events a second come in."""

from __future__ import annotations

import json

from benchmarks.bench import DRAIN_SECONDS, QUIET_SECONDS, Bench, Contestant
from benchmarks.figures import PER_SECOND
from benchmarks.load.audience import Audience
from benchmarks.load.requests import post_request, repeat
from benchmarks.peers import HOST, ROOM
from benchmarks.scenarios.scenario import Scenario

NAME = "publish rate"
CASE = "room of 10"
MEMBERS, CONNECTIONS, ARRAY = 10, 8, 100
SINGLE, ARRAYS = "events/s, one a request", f"events/s, {ARRAY} a request"
EVENT = {"type": "ModelSettingsUpdated", **ROOM, "kind": "container", "data": {"name": "Structure"}}


def run(bench: Bench) -> None:
    """Measure requests of one event, and of an array."""
    with bench.started() as contestants:
        for contestant in contestants:
            contestant.grow(MEMBERS)
        for contestant in bench.turns(contestants):
            for metric, body, events in ((SINGLE, EVENT, 1), (ARRAYS, [EVENT] * ARRAY, ARRAY)):
                bench.add(NAME, CASE, metric, contestant.peer, events * _requests(bench, contestant, body))


def _requests(bench: Bench, contestant: Contestant, body: object) -> float:
    port = contestant.server.port
    request = post_request(HOST, port, "/notify/events", json.dumps(body).encode(), bench.config.api_key)
    # The members read meanwhile: a member that does not is disconnected some time.
    reading = contestant.load.start(Audience.drain, -1, DRAIN_SECONDS, QUIET_SECONDS)
    rate = repeat(HOST, port, request, CONNECTIONS, bench.sizes.publish_seconds)
    reading.result()
    return rate


SCENARIO = Scenario(
    name=NAME,
    title="Publish rate over REST",
    how=f"`POST /notify/events` over {CONNECTIONS} connections that stay open, one request at a time on each, with one "
    f"event and with an array of {ARRAY}; each event goes to a room of {MEMBERS}.",
    metrics={SINGLE: PER_SECOND, ARRAYS: PER_SECOND},
    plotted=(SINGLE, ARRAYS),
    steps=lambda _: 1,
    run=run,
)
