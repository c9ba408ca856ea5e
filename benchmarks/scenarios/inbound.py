"""One large message from one client: how long the others wait."""

from __future__ import annotations

import json

from benchmarks.bench import Bench
from benchmarks.figures import MILLISECONDS, Key
from benchmarks.load.frames import masked
from benchmarks.load.probe import probe
from benchmarks.peers import ROOM
from benchmarks.scenarios.scenario import Scenario

NAME = "large message"
CASE = "900 kB"
BYTES = 900_000
BEFORE, DURING = "slowest answer before", "slowest answer meanwhile"


def run(bench: Bench) -> None:
    """Send the message beside a connection that pings."""
    message = masked(b"42" + json.dumps(["join", {**ROOM, "more": "x" * BYTES}]).encode())
    with bench.started() as contestants:
        for contestant in bench.turns(contestants):
            found = contestant.load.run(probe, contestant.script, message, bench.sizes.probe_seconds)
            bench.add(NAME, CASE, BEFORE, contestant.peer, found.before)
            bench.add(NAME, CASE, DURING, contestant.peer, found.during)
            bench.results.remarks[Key(NAME, CASE, DURING, contestant.peer.name)] = found.outcome


SCENARIO = Scenario(
    name=NAME,
    title="One large inbound message",
    how="A client sends a `join` of 900 kB, while another sends a WebSocket ping each millisecond: the slowest answer "
    "to a ping before and after the moment of sending. WebSocket pings ask nothing of the application.",
    metrics={BEFORE: MILLISECONDS, DURING: MILLISECONDS},
    plotted=(DURING,),
    steps=lambda _: 1,
    run=run,
)
