"""The command: which scenarios, which peers, how much, and where the page goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

import click

from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.build import BuildError
from benchmarks.figures import SECONDS, Course, Results
from benchmarks.load.audience import LoadError
from benchmarks.machine import facts
from benchmarks.peers import PEERS, ROOT, Config
from benchmarks.process import machine_busy, raise_open_files
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios.scenario import Scenario
from benchmarks.sizes import SIZES
from repo_notify.access.store import connect
from repo_notify.demo.seed import seed
from repo_notify.testing.embedded import MEMORY, EmbeddedMongo

USERS = "users"
SEED_SECONDS = 10.0


@click.command()
@click.option(
    "--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only these; default: all."
)
@click.option("--peer", "peer_names", multiple=True, type=click.Choice(list(PEERS)), help="Only these; default: all.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of each measurement; default: 5, quick 2.")
@click.option("--full", "sizes", flag_value="full", default=True, help="The sizes of the documentation (default).")
@click.option("--quick", "sizes", flag_value="quick", help="Smaller sizes, under four minutes.")
@click.option("--smoke", "sizes", flag_value="smoke", help="Tiny sizes, which measure nothing: does it run?")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "docs" / "performance.md", show_default=True)
def main(names: tuple[str, ...], peer_names: tuple[str, ...], rounds: int | None, sizes: str, out: Path) -> None:
    """Measure the service against its peers and write the page with its plots."""
    raise_open_files()
    scenarios = [SCENARIOS[name] for name in names or SCENARIOS]
    peers = tuple(PEERS[name] for name in peer_names or PEERS)
    chosen = SIZES[sizes]
    results = Results()
    started = monotonic()
    missing: dict[str, str] = {}
    failed: list[str] = []
    try:
        with EmbeddedMongo(MEMORY) as mongo:
            with connect(mongo.uri, timeout=SEED_SECONDS) as client:
                seed(client, users_collection=USERS)
            bench = Bench(Config(mongo.uri, USERS), peers, chosen, rounds or chosen.rounds, results, missing)
            for number, scenario in enumerate(scenarios, 1):
                if not is_measured(bench, scenario):
                    failed.append(scenario.title)
                known = facts() | {"Duration": f"{(monotonic() - started) / 60:.0f} minutes, {bench.rounds} rounds"}
                # After each: whoever interrupts the run has what was measured until then.
                report.write(out, results, scenarios=scenarios[:number], peers=peers, missing=missing, facts=known)
    except BuildError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out} is written")
    if failed:
        raise click.ClickException(f"not measured: {', '.join(failed)}; the page says why")


def is_measured(bench: Bench, scenario: Scenario) -> bool:
    """Run a scenario; return whether it came to its end. One that did not must not cost the others their hour."""
    peers = tuple(peer for peer in bench.peers if scenario.includes(peer.name))
    bench = replace(bench, peers=peers, rounds=scenario.rounds_of(bench.rounds))
    others = machine_busy(bench.sizes.look_seconds)
    started = monotonic()
    try:
        _run(bench, scenario)
    except LoadError as error:
        bench.results.left_out[scenario.name] = str(error)
        return False
    finally:
        course = Course(bench.rounds, monotonic() - started, others)
        bench.results.courses[scenario.name] = course
        click.echo(f"{scenario.title}: {SECONDS.write(course.seconds)}")
    return True


def _run(bench: Bench, scenario: Scenario) -> None:
    turns = scenario.steps(bench.sizes) * bench.rounds * len(bench.peers)
    with click.progressbar(length=turns, label=f"{scenario.title:<26}") as bar:
        bench.step = lambda: bar.update(1)
        scenario.run(bench)
        # Peers that are left out, or take no part in this scenario, leave the bar short.
        bar.update(bar.length - bar.pos if bar.length is not None else 0)
