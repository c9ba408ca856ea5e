"""docs/capacity.md: its figures are those of docs/performance.md, rounded, and its limits are the service's."""

from __future__ import annotations

import re
import subprocess

import pytest

from repo_notify.delivery.queue import MAX_WAITING_BYTES
from repo_notify.serving import BACKLOG
from repo_notify.settings import read
from tests.docs.pages import DOCS, block

PAGE = (DOCS / "capacity.md").read_text("utf-8")
PERFORMANCE = (DOCS / "performance.md").read_text("utf-8")
# How far a machine's next run may be from what is written here.
FACTOR = 1.6
# A row of capacity.md -> the case and the metric of performance.md.
MEASURED = {
    "memory of an idle connection in a room": ("10,000 connections", "memory per connection"),
    "CPU of a connection with its join, sessions in the cookie": (
        "3,000 clients, sessions without a store",
        "server CPU per connect+join",
    ),
    "CPU of a connection with its join, sessions in MongoDB": (
        "3,000 clients, sessions in MongoDB",
        "server CPU per connect+join",
    ),
    "CPU of a delivery, single events to a room of 1,000": (
        "room of 1,000",
        "server CPU per delivery, single events",
    ),
    "CPU of a delivery, bursts of 50 to a room of 1,000": ("room of 1,000", "server CPU per delivery, bursts of 50"),
    "deliveries a second, single events to a room of 1,000": ("room of 1,000", "deliveries/s, single events"),
    "99 % of deliveries within, at 20,000 a second": ("20,000 deliveries/s", "p99"),
    "events a second over HTTP, one a request": ("room of 10", "events/s, one a request"),
    "events a second over HTTP, 100 a request": ("room of 10", "events/s, 100 a request"),
}


def number(text: str) -> float:
    found = re.match(r"[\d,.]+", text)
    assert found
    return float(found[0].replace(",", ""))


@pytest.mark.parametrize("row", MEASURED)
def test_a_figure_is_the_measured_one(row: str) -> None:
    case, metric = MEASURED[row]
    (said,) = re.findall(rf"^\| {re.escape(row)} \| (.+) \|$", PAGE, re.MULTILINE)
    (measured,) = re.findall(
        rf"^\| {re.escape(case)} \| {re.escape(metric)} \| \*\*(.+?)\*\*", PERFORMANCE, re.MULTILINE
    )
    assert said.split()[1:] == measured.replace("us", "µs").split()[1:], "the unit"
    assert 1 / FACTOR < number(said) / number(measured) < FACTOR


def test_every_figure_is_a_measured_one() -> None:
    table = PAGE.partition("| what | about |\n|---|---|\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (.+?) \|", table, re.MULTILINE) == list(MEASURED)


def test_the_limits_are_the_defaults() -> None:
    settings = read({})
    assert settings.max_outbox_bytes == 8 * 2**20
    assert settings.max_outbox_total_bytes == 256 * 2**20
    assert settings.permission_cache_size == 10_000
    assert (MAX_WAITING_BYTES, BACKLOG) == (64 * 2**20, 4096)


def test_the_limit_of_open_files_can_be_asked_for() -> None:
    command = block("capacity.md", "Descriptors", "sh").text
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+|unlimited", done.stdout.strip())
