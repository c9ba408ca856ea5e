"""What a scenario is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.figures import Unit
from benchmarks.peers import PEERS
from benchmarks.sizes import Sizes

# Everybody but ours once more, with a history.
PLAIN = tuple(name for name, peer in PEERS.items() if not peer.with_history)
# Who takes part where it is waited for that a server is idle: one with eiows takes a tenth of a core for ever.
IDLE_AT_TIMES = ("ours", "stock", "node")


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    `how` says how it is measured; the `plotted` metrics become one plot each, on a logarithmic scale; `steps` are the
    measurements of one peer in one round. `only` names the peers that take part. A scenario that is long, and whose
    figures hardly differ from round to round, has `most_rounds`.
    """

    name: str
    title: str
    how: str
    metrics: Mapping[str, Unit]
    plotted: tuple[str, ...]
    steps: Callable[[Sizes], int]
    run: Callable[[Bench], None]
    only: tuple[str, ...] = PLAIN
    most_rounds: int | None = None

    def includes(self, peer: str) -> bool:
        """Return whether a peer takes part."""
        return peer in self.only

    def rounds_of(self, rounds: int) -> int:
        """Return how many rounds it takes in a run of so many."""
        return min(rounds, self.most_rounds or rounds)
