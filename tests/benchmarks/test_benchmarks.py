"""The benchmark runs, and writes a page in good order. What it measures here is nothing."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.bench import Bench
from benchmarks.cli import is_measured
from benchmarks.figures import BUSY, MICROSECONDS, PER_SECOND, Figure, Key, Results, Unit
from benchmarks.load.audience import PING_FRAME, Audience, LoadError, Script
from benchmarks.load.drain import Drained, drain, drain_in_python
from benchmarks.load.frames import PING, masked
from benchmarks.peers import HISTORY, Config
from benchmarks.plots import bars
from benchmarks.process import cpu_seconds, machine_busy, memory_bytes, peak_bytes
from benchmarks.report import table, write
from benchmarks.scenarios import SCENARIOS
from benchmarks.sizes import SIZES
from benchmarks.targets import TARGETS

# Its fifteen scenarios take a minute and a half on a machine of their own, and five on a busy one.
pytestmark = [pytest.mark.slow, pytest.mark.unmeasured, pytest.mark.timeout(500)]

ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 490
PEERS = ("ours", HISTORY, "stock")
PAIR = ("ours", "stock")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "performance.md"
    options = [f"--peer={peer}" for peer in PEERS]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", "--rounds=1", *options, f"--out={path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def test_every_scenario_has_its_section_and_a_figure_of_each_peer(page: Path) -> None:
    text = page.read_text()
    sections = dict(section.split("\n", 1) for section in text.split("\n## ")[1:])
    for scenario in SCENARIOS.values():
        if "Left out: " in sections[scenario.title]:
            continue
        peers = [peer for peer in PEERS if scenario.includes(peer)]
        assert f"| case | metric | {' | '.join(peers)} | wins |" in sections[scenario.title]
        for metric in scenario.metrics:
            row = next(line for line in sections[scenario.title].splitlines() if f"| {metric} |" in line)
            assert row.count("**") == 2 * len(peers), row
    courses = re.findall(r"^\| (.+) \| 1 \| [\d.]+ s \| [\d.]+ % \|$", sections["The machine"], re.MULTILINE)
    assert courses == [scenario.title for scenario in SCENARIOS.values()]


def test_every_table_has_as_many_cells_in_each_row(page: Path) -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", page.read_text(), re.MULTILINE)
    assert len(tables) == 4 + len(SCENARIOS) - page.read_text().count("Left out: ")
    for found in tables:
        assert len({line.count(" | ") for line in found.splitlines()}) == 1, found


def test_every_plot_is_well_formed_and_every_picture_is_there(page: Path) -> None:
    pictures = re.findall(r"!\[.*\]\((.*)\)", page.read_text())
    measured = [scenario for scenario in SCENARIOS.values() if f"![{scenario.title}" in page.read_text()]
    assert len(measured) == len(SCENARIOS) - page.read_text().count("Left out: ")
    assert len(pictures) == sum(len(scenario.plotted) for scenario in measured)
    for picture in pictures:
        assert ElementTree.parse(page.parent / picture).getroot().tag.endswith("svg")  # noqa: S314 - our own file


def test_a_scenario_that_breaks_off_is_left_out_with_the_reason() -> None:
    def run(_: Bench) -> None:
        raise LoadError("nobody is there")

    bench = Bench(Config("", ""), (), SIZES["smoke"], 1)
    assert not is_measured(bench, replace(SCENARIOS["fan-out"], run=run))
    assert bench.results.left_out == {"fan-out": "nobody is there"}
    assert is_measured(bench, replace(SCENARIOS["latency"], run=lambda _: None))
    assert list(bench.results.courses) == ["fan-out", "latency"]


def test_a_long_scenario_has_fewer_rounds() -> None:
    rounds = []
    scenario = replace(SCENARIOS["latency"], run=lambda bench: rounds.append(bench.rounds), most_rounds=2)
    for asked in (1, 5):
        assert is_measured(Bench(Config("", ""), (), SIZES["smoke"], asked), scenario)
    assert rounds == [1, 2]


def test_a_scenario_that_cannot_be_measured_here_is_left_out_and_says_so(tmp_path: Path) -> None:
    path, scenario = tmp_path / "performance.md", SCENARIOS["backend"]
    results = Results(left_out={scenario.name: "RabbitMQ is not installed"})
    write(path, results, scenarios=[scenario], peers=[], missing={}, facts={})
    _, _, section = path.read_text().partition(f"## {scenario.title}\n")
    assert section.endswith("\n\nLeft out: RabbitMQ is not installed.\n")


def test_a_target_that_was_not_measured_is_neither_reached_nor_missed(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.endswith("| not measured in this run |  |")]
    # The sizes of the smoke test are none of the targets', but for the large message and for publishing in-process.
    assert len(rows) == len(TARGETS) - 6


def test_what_a_history_costs_is_a_ratio_of_ours_and_nobody_wins_by_it(page: Path) -> None:
    text = page.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| a history in memory: own CPU of a publish ")]
    assert len(rows) == 2
    for row in rows:
        assert re.search(r" \| [\d.]+ × ours \([\d.]+ \.\. [\d.]+\) \| ", row), row
    assert f"`{HISTORY}` by " not in text


def test_two_workers_are_left_out_where_the_machine_is_too_small() -> None:
    bench = Bench(Config("", ""), (), replace(SIZES["smoke"], worker_cores=1_000), 1)
    SCENARIOS["workers"].run(bench)
    cores = len(os.sched_getaffinity(0))
    assert bench.results.left_out == {"workers": f"this machine has {cores} cores; it needs 1000"}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, select.epoll]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with closing(ours), closing(theirs), select.epoll() as epoll:
        epoll.register(ours, select.EPOLLIN)
        yield theirs, epoll


@pytest.mark.parametrize("reader", [drain, drain_in_python])
def test_both_readers_count_bytes_ages_and_ends_alike(pair: tuple[socket.socket, select.epoll], reader: object) -> None:
    assert callable(reader)
    theirs, epoll = pair
    due = time.monotonic_ns() - 5_000_000
    data = b"".join(b'\x81\x30[{"data":{"at":"%019d","fill":"xx"}}]' % due for _ in range(3))
    theirs.sendall(data)
    found = reader(epoll, len(data), 5.0, ages=10)
    assert isinstance(found, Drained)
    assert found.bytes == len(data)
    assert len(found.ages) == 3
    assert all(5_000_000 <= age <= time.monotonic_ns() - due for age in found.ages)
    theirs.close()
    ended = reader(epoll, -1, 5.0, quiet=0.01)
    assert (ended.bytes, ended.closed) == (0, 1)


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65_535, 65_536])
def test_frames_of_every_length_are_what_the_rfc_says(size: int) -> None:
    payload = bytes(index % 256 for index in range(size))
    frame = masked(payload, PING)
    assert frame[0] == 0x80 | PING
    key, body = frame[len(frame) - size - 4 : len(frame) - size], frame[len(frame) - size :]
    assert bytes(byte ^ key[index % 4] for index, byte in enumerate(body)) == payload
    assert frame[1] & 0x80


def test_a_ratio_is_taken_round_by_round() -> None:
    ours, theirs = (Key("fan-out", "room of 10", "rate", peer) for peer in PAIR)
    results = Results({ours: [10.0, 40.0, 90.0], theirs: [10.0, 20.0, 30.0]})
    assert results.ratio(ours, theirs) == Figure(2.0, 1.0, 3.0)
    assert results.ratio(ours, Key("fan-out", "room of 10", "rate", "node")) is None


@pytest.mark.parametrize(
    ("unit", "stock", "winner"),
    [
        (PER_SECOND, [5.0, 10.0, 10.0], "`ours` by 2.00 ×"),
        (PER_SECOND, [5.0, 30.0, 15.0], "`ours` by 1.33 ×, not in every round"),
        (PER_SECOND, [80.0, 20.0, 60.0], "`stock` by 3.00 ×, not in every round"),
        (PER_SECOND, [20.0, 10.0, 90.0], "equal"),
        (MICROSECONDS, [5.0, 10.0, 10.0], "`stock` by 2.00 ×"),
        (MICROSECONDS, [0.0, 0.0, 90.0], "`stock`, not in every round"),
        (BUSY, [5.0, 10.0, 10.0], ""),
        (PER_SECOND, [], ""),
    ],
)
def test_who_wins_a_row_and_by_how_much(unit: Unit, stock: list[float], winner: str) -> None:
    keys = [Key("fan-out", "room of 10", "rate", peer) for peer in PAIR]
    results = Results({keys[0]: [10.0, 20.0, 20.0], **({keys[1]: stock} if stock else {})})
    assert results.winner(keys, unit) == winner


def test_pings_are_answered_and_anything_else_is_an_error() -> None:
    audience = Audience()
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        audience.connect(Script(*listener.getsockname()), 2)
        once, twice = (listener.accept()[0] for _ in range(2))
        with once, twice:
            answered = pool.submit(audience.answer_pings, 0.5)
            once.sendall(PING_FRAME)
            twice.sendall(PING_FRAME * 2)
            assert once.recv(100) == masked(b"3")
            assert twice.recv(100) == masked(b"3") * 2
            assert answered.result() == 3
            once.sendall(b"\x81\x02an")
            with pytest.raises(LoadError, match=r"instead of a ping came .*an"):
                audience.answer_pings(0.5)


def test_a_process_is_measured_as_the_kernel_sees_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "sum(range(10**6)); input()"], stdin=subprocess.PIPE) as process:
        assert 0 <= cpu_seconds(process.pid) < 60
        assert 0 < memory_bytes(process.pid, "Rss") <= peak_bytes(process.pid)
        process.kill()


def test_the_load_of_the_machine_is_a_share_of_it() -> None:
    assert 0 <= machine_busy(0.05) <= 1


def test_names_in_plots_and_tables_are_escaped() -> None:
    chart = bars("a < b", PER_SECOND, ["<case>"], {("<case>", "ours"): Figure(0.0, 0.0, 0.0)})
    assert "a &lt; b" in chart
    assert "&lt;case&gt;" in chart
    assert table(["a"], [["b|c"]]).endswith("| b\\|c |\n")


def test_a_figure_of_a_target_is_shown_beside_the_calm_one() -> None:
    target = next(target for target in TARGETS if target.wanted == "a ping is answered within 5 ms")
    calm, sweeping = (
        Key("access", "sweep over 15,000", f"slowest answer to a ping, {when}", "ours") for when in ("calm", "sweeping")
    )
    found = target.judge(Results({calm: [0.0227], sweeping: [0.04, 0.0428, 0.0455]}))
    assert found.measured == "**42.8 ms** (40 ms .. 45.5 ms), in place of 22.7 ms calm"
    assert found.reached is False


def test_the_figures_behind_a_target_are_those_that_were_measured() -> None:
    target = next(target for target in TARGETS if target.scenario == "1,000 messages/s of a 3D Repo backend")
    p99 = {
        Key("backend", "1,000 messages/s to rooms of 10", "p99", peer): [seconds]
        for peer, seconds in (("ours", 0.024), ("node", 0.02))
    }
    assert target.judge(Results(p99)).why == "p99: ours 24 ms, node 20 ms"
