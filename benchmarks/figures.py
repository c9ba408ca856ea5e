"""What was measured: rounds of one metric of one case of one peer, and the figure that they make."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Unit:
    """How a metric is written, whether more of it is better, and whether one peer wins by it at all."""

    name: str
    write: Callable[[float], str]
    more_is_better: bool = False
    judged: bool = True


def _grouped(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _scaled(divisor: float, unit: str) -> Callable[[float], str]:
    return lambda value: "never" if math.isinf(value) else f"{_grouped(value / divisor)} {unit}"


def _rounded_down(share: float) -> str:
    """Return two decimals of a percentage, of which 100.00 is all and not nearly all."""
    return f"{math.floor(share * 1e4) / 100:.2f} %"


PER_SECOND = Unit("per second", _grouped, more_is_better=True)
MICROSECONDS = Unit("microseconds", _scaled(1e-6, "us"))
MILLISECONDS = Unit("milliseconds", _scaled(1e-3, "ms"))
SECONDS = Unit("seconds", _scaled(1.0, "s"))
KILOBYTES = Unit("kB", _scaled(1e3, "kB"))
MEBIBYTES = Unit("MiB", _scaled(2**20, "MiB"))
COUNT = Unit("number", _grouped)
COMPLETENESS = Unit("completeness", _rounded_down, more_is_better=True)
SHARE = Unit("share", lambda value: f"{100 * value:.3g} %", more_is_better=True)
# How busy a server was is neither good nor bad by itself.
BUSY = Unit("busy", SHARE.write, judged=False)


@dataclass(frozen=True, order=True)
class Key:
    """Where a figure belongs: scenario, case (such as a room's size), metric, peer."""

    scenario: str
    case: str
    metric: str
    peer: str


@dataclass(frozen=True)
class Figure:
    """The median of some rounds, with the least and the most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        """Return the figure of at least one round."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, unit: Unit) -> str:
        """Return the figure as a table shows it."""
        return f"**{unit.write(self.median)}** ({unit.write(self.low)} .. {unit.write(self.high)})"


@dataclass(frozen=True)
class Course:
    """How a scenario was run: its rounds, the seconds that it took, and the share that others used before it."""

    rounds: int
    seconds: float
    others: float


@dataclass
class Results:
    """All rounds of a run, and remarks such as what became of a message; kept in the order in which they came.

    `courses` are those of the scenarios by name.
    `left_out` are scenarios that could not be measured, each with the reason.
    """

    rounds: dict[Key, list[float]] = field(default_factory=dict)
    remarks: dict[Key, str] = field(default_factory=dict)
    courses: dict[str, Course] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, key: Key, value: float) -> None:
        """Add one round."""
        self.rounds.setdefault(key, []).append(value)

    def figure(self, key: Key) -> Figure | None:
        """Return the figure of all rounds, None where nothing was measured."""
        values = self.rounds.get(key)
        return Figure.of(values) if values else None

    def ratio(self, above: Key, below: Key) -> Figure | None:
        """Return the figure of the ratio of two metrics, taken round by round: what slows a round, slows both."""
        pairs = zip(self.rounds.get(above, []), self.rounds.get(below, []), strict=False)
        ratios = [first / second for first, second in pairs if second]
        return Figure.of(ratios) if ratios else None

    def winner(self, keys: Sequence[Key], unit: Unit) -> str:
        """Return which peer has the best median of a metric, and by how much; empty where nobody competes."""
        found = [(key, figure) for key in keys if (figure := self.figure(key)) is not None]
        if len(found) < 2 or not unit.judged:
            return ""
        (first, best), (second, other) = sorted(found, key=lambda one: one[1].median, reverse=unit.more_is_better)[:2]
        if best.median == other.median:
            return "equal"
        above, below = (first, second) if unit.more_is_better else (second, first)
        by = self.ratio(above, below)
        always = "" if by is not None and by.low > 1 else ", not in every round"
        # Of what is next to nothing, or never ends, there is no such ratio.
        much = f" by {by.median:.2f} ×" if by is not None and 1 <= by.median < math.inf else ""
        return f"`{first.peer}`{much}{always}"

    def cases(self, scenario: str, metric: str) -> list[str]:
        """Return the cases of one metric in the order in which they were measured."""
        found = [key.case for key in self.rounds if key.scenario == scenario and key.metric == metric]
        return list(dict.fromkeys(found))
