"""docs/performance.md and its plots, from the results of one run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import BUSY, SECONDS, Figure, Key, Results
from benchmarks.peers import Peer
from benchmarks.plots import bars
from benchmarks.scenarios.scenario import Scenario
from benchmarks.targets import NOT_MEASURED, TARGETS

INTRODUCTION = """# Performance

This page is written by `python -m benchmarks`; nothing in it is typed in by hand. To write it anew: `pip install -e
'.[benchmarks]'` and run that command on a machine that does nothing else; `--quick` for a look, `--scenario` and
`--peer` for a part, `--out` for another place. Peers whose Node, npm or gcc is not there are left out, and so is the
scenario of a 3D Repo backend without RabbitMQ.

All peers ran side by side in one run, measured in turn, round by round, each round begun by another, so that the noise
of the machine hits all alike. A figure is the median of the rounds, with the least and the most in brackets. Scenarios
that are long, and whose figures hardly differ from round to round, have fewer rounds, as the table of them says. What
counts are the **ratios within one run**: absolute figures differ from machine to machine and from day to day. Server
and clients share one machine and its loopback device, so that no network and no proxy is in the figures.

The clients are raw sockets in a process of their own, with prebuilt frames and one epoll set whose reader only counts.
They do not decode what they get. CPU time is the server's own (all its threads, `schedstat`), memory is the
proportional set size of its process. Heartbeats are set so far apart that none falls into a measurement, but for the
scenario that measures them. The last column says which service has the best median, and by which median of the rounds'
ratios to the next best; the C loop is no service.
"""

COURSE = ("scenario", "rounds", "took", "used by others before")
SHORT = """A server that was busy for all of the time is bounded by its own CPU time per delivery, connection or event:
there its code is what falls short. One that was not has waited, for the clients or for the machine."""


def write(
    path: Path,
    results: Results,
    *,
    scenarios: Sequence[Scenario],
    peers: Sequence[Peer],
    missing: dict[str, str],
    facts: dict[str, str],
) -> None:
    """Write the page to `path`, and its plots into the folder of the same name beside it."""
    plots = path.with_suffix("")
    plots.mkdir(parents=True, exist_ok=True)
    for old in plots.glob("*.svg"):
        old.unlink()
    there = [peer for peer in peers if peer.name not in missing]
    parts = [INTRODUCTION, _machine(facts, results, scenarios), _peers(peers, missing), _targets(results)]
    parts += ["\n".join(_scenario(scenario, results, there, plots)) for scenario in scenarios]
    path.write_text("\n".join(parts))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _machine(facts: dict[str, str], results: Results, scenarios: Sequence[Scenario]) -> str:
    titles = {scenario.name: scenario.title for scenario in scenarios}
    rows = [
        [titles[name], str(course.rounds), SECONDS.write(course.seconds), BUSY.write(course.others)]
        for name, course in results.courses.items()
    ]
    return "\n".join(["## The machine", "", table(["", ""], list(facts.items())), table(COURSE, rows)])


def _peers(peers: Sequence[Peer], missing: dict[str, str]) -> str:
    rows = [[f"`{peer.name}`", peer.title] for peer in peers if peer.name not in missing]
    left_out = "".join(f"\n`{name}` was left out: {reason}.\n" for name, reason in missing.items())
    return "## The peers\n\n" + table(["name", "what"], rows) + left_out


def _targets(results: Results) -> str:
    verdicts = [(target, target.judge(results)) for target in TARGETS]
    words = {True: "reached", False: "**not reached**", None: ""}
    rows = [[target.scenario, target.wanted, found.measured, words[found.reached]] for target, found in verdicts]
    scenario = ""
    lines = ["## Targets", "", table(["scenario", "wanted", "measured", ""], rows)]
    short = []
    for target, found in verdicts:
        scenario = target.scenario if target.scenario != "the same" else scenario
        if found.reached is False:
            behind = f" The figures behind it: {found.why}." if found.why else ""
            short.append(f"- **{scenario}**: {target.wanted} was asked; measured {found.measured}.{behind}")
    if short:
        lines += ["### Where it falls short", "", SHORT, "", *short, ""]
    elif all(found is not NOT_MEASURED for _, found in verdicts):
        lines += ["Nothing falls short in this run.", ""]
    return "\n".join(lines)


def _scenario(scenario: Scenario, results: Results, peers: Sequence[Peer], plots: Path) -> Iterator[str]:
    yield f"## {scenario.title}\n\n{scenario.how}\n"
    if (reason := results.left_out.get(scenario.name)) is not None:
        yield f"Left out: {reason}.\n"
        return
    for metric in scenario.plotted:
        name = f"{_slug(scenario.name)}-{_slug(metric)}.svg"
        if chart := _chart(scenario, metric, results):
            (plots / name).write_text(chart)
            yield f"![{scenario.title}: {metric}]({plots.name}/{name})\n"
    taking_part = [peer.name for peer in peers if scenario.includes(peer.name)]
    competing = [peer.name for peer in peers if peer.competes and scenario.includes(peer.name)]
    yield table(["case", "metric", *taking_part, "wins"], list(_rows(scenario, results, taking_part, competing)))
    remarks = [(key, text) for key, text in results.remarks.items() if key.scenario == scenario.name]
    if remarks:
        yield "".join(f"- `{key.peer}`, {key.case}: {text}.\n" for key, text in remarks)


def _chart(scenario: Scenario, metric: str, results: Results) -> str | None:
    keys = [key for key in results.rounds if key.scenario == scenario.name and key.metric == metric]
    figures = {(key.case, key.peer): Figure.of(results.rounds[key]) for key in keys}
    if not figures:
        return None
    unit = scenario.metrics[metric]
    direction = "more is better" if unit.more_is_better else "less is better"
    title = f"{scenario.title}: {metric} ({direction}, logarithmic)"
    return bars(title, unit, results.cases(scenario.name, metric), figures)


def _rows(scenario: Scenario, results: Results, peers: Sequence[str], competing: Sequence[str]) -> Iterator[list[str]]:
    for metric, unit in scenario.metrics.items():
        for case in results.cases(scenario.name, metric):
            figures = [results.figure(Key(scenario.name, case, metric, peer)) for peer in peers]
            winner = results.winner([Key(scenario.name, case, metric, peer) for peer in competing], unit)
            yield [case, metric, *(figure.text(unit) if figure else "" for figure in figures), winner]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
