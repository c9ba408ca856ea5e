"""The scenarios as a table, in the order in which they run."""

from __future__ import annotations

from benchmarks.scenarios import (
    access,
    backend,
    fanout,
    idle,
    inbound,
    joining,
    latency,
    leaving,
    publishing,
    recovery,
    slow,
)
from benchmarks.scenarios.scenario import Scenario

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (fanout, latency, joining, idle, leaving, slow, inbound, publishing, access, recovery, backend)
}
