"""The scenarios as a table, in the order in which they run."""

from __future__ import annotations

from benchmarks.scenarios import (
    access,
    backend,
    fanout,
    heartbeats,
    idle,
    in_process,
    inbound,
    joining,
    latency,
    leaving,
    publishing,
    recovery,
    restarts,
    slow,
    workers,
)
from benchmarks.scenarios.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (
        fanout,
        latency,
        joining,
        idle,
        heartbeats,
        leaving,
        slow,
        inbound,
        in_process,
        publishing,
        access,
        recovery,
        restarts,
        backend,
        workers,
    )
}
