"""Several workers on one port: what a second process brings, where the machine has a core for it."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import cast
from uuid import uuid4

from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from benchmarks.bench import DRAIN_SECONDS, PAUSE_SECONDS, Bench
from benchmarks.figures import MICROSECONDS, PER_SECOND
from benchmarks.load.audience import Audience, LoadError, Script
from benchmarks.load.process import LoadProcess
from benchmarks.load.requests import post_request, repeat
from benchmarks.peers import (
    CHAT_PATH,
    HOST,
    READER,
    ROOM,
    STOP_SECONDS,
    Command,
    Config,
    Peer,
    Unavailable,
    WebServer,
    launched,
)
from benchmarks.process import cpu_seconds, settle
from benchmarks.scenarios.publishing import EVENT
from benchmarks.scenarios.scenario import Scenario
from tests.support import brokers

NAME = "workers"
JOINS, JOINS_CPU = "connects+joins/s", "server CPU per connect+join"
EVENTS, EVENTS_CPU = "events/s over REST, one a request", "server CPU per event"
WORKERS = (1, 2)
# The clients of one process take no more connections a second than one worker does.
CROWDS = 2
# So many that neither worker is without any: the kernel gives each to one of them by chance.
CONNECTIONS, MEMBERS = 32, 10
COOKIE = "connect.sid"
START_SECONDS, LOOK_SECONDS = 30.0, 0.1
WORKER = re.compile(r'^repo_notify_worker_info\{pid="(\d+)"', re.MULTILINE)


def case(workers: int) -> str:
    """Return how so many workers are called."""
    return "one process" if workers == 1 else f"{workers} workers"


def run(bench: Bench) -> None:
    """Measure one process and several by turns, each with a history in the same Redis."""
    cores, needed = len(os.sched_getaffinity(0)), bench.sizes.worker_cores
    if cores < needed:
        bench.results.left_out[NAME] = f"this machine has {cores} cores; it needs {needed}"
    elif brokers.find_binary("redis-server") is None:
        bench.results.left_out[NAME] = "there is no redis-server"
    else:
        for ours in bench.peers:
            _measure_all(bench, ours)


@dataclass(frozen=True)
class _Service:
    """A service of so many workers, and its clients."""

    workers: int
    script: Script
    pids: frozenset[int]
    crowds: tuple[LoadProcess, ...]

    def settle(self) -> None:
        """Wait until all of it is idle."""
        for pid in self.pids:
            settle(pid)

    def cpu(self) -> float:
        """Return the CPU time of all of it in seconds."""
        return sum(map(cpu_seconds, self.pids))


def _measure_all(bench: Bench, ours: Peer) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-")))
        redis = stack.enter_context(brokers.redis(folder))
        crowds = tuple(stack.enter_context(LoadProcess()) for _ in range(CROWDS))
        services = [stack.enter_context(_serving(bench.config, number, redis, crowds)) for number in WORKERS]
        for service in services:
            # Uncounted: what the first client loads or allocates for all.
            _storm(service, CROWDS * MEMBERS)
        for number in range(bench.rounds):
            for service in reversed(services) if number % 2 else services:
                _measure(bench, service, ours)
                bench.step()


def _measure(bench: Bench, service: _Service, ours: Peer) -> None:
    cpu, seconds = _storm(service, bench.sizes.storm)
    events, events_cpu, events_seconds = _publish(bench, service)
    found = {
        JOINS: bench.sizes.storm / seconds,
        JOINS_CPU: cpu / bench.sizes.storm,
        EVENTS: events / events_seconds,
        EVENTS_CPU: events_cpu / events,
    }
    for metric, value in found.items():
        bench.add(NAME, case(service.workers), metric, ours, value)


def _storm(service: _Service, count: int) -> tuple[float, float]:
    """Have so many clients come and go; return the CPU time of their coming, and how long it took them."""
    share = count // CROWDS
    service.settle()
    cpu, started = service.cpu(), monotonic()
    entering = [crowd.start(Audience.connect, service.script, share) for crowd in service.crowds]
    for one in entering:
        one.result()
    seconds = monotonic() - started
    service.settle()
    cpu = service.cpu() - cpu
    for crowd in service.crowds:
        crowd.call(Audience.leave, share)
    service.settle()
    return cpu, seconds


def _publish(bench: Bench, service: _Service) -> tuple[int, float, float]:
    """Publish to a room of ten; return how many events were accepted, their CPU time, and in how many seconds."""
    members, publisher = service.crowds
    port = service.script.port
    request = post_request(HOST, port, "/notify/events", json.dumps(EVENT).encode(), bench.config.api_key)
    members.call(Audience.connect, service.script, MEMBERS)
    reading = members.start(Audience.drain, -1, DRAIN_SECONDS, PAUSE_SECONDS)
    cpu = service.cpu()
    found = publisher.run(repeat, HOST, port, request, CONNECTIONS, bench.sizes.publish_seconds)
    reading.result()
    cpu = service.cpu() - cpu
    members.call(Audience.leave, MEMBERS)
    return found.answers, cpu, found.seconds


@contextmanager
def _serving(config: Config, workers: int, redis: str, crowds: tuple[LoadProcess, ...]) -> Iterator[_Service]:
    """Run `repo-notify serve` with so many workers; the block begins when all of them serve."""
    environment = {
        "REPO_NOTIFY_MONGO_URI": config.mongo_uri,
        "REPO_NOTIFY_USERS_COLLECTION": config.users_collection,
        "REPO_NOTIFY_API_KEY": config.api_key,
        "REPO_NOTIFY_HISTORY": redis,
        "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": f"workers{uuid4().hex}",
        "REPO_NOTIFY_PING_INTERVAL": str(config.ping_seconds),
        "REPO_NOTIFY_PING_TIMEOUT": str(config.ping_seconds),
        "SECRET_KEY": config.secret,
    }
    words = (sys.executable, "-m", "repo_notify", "serve", "--host", HOST, "--port", "0", "--workers", str(workers))
    peer = Peer("ours", "", lambda _: Command(words, environment), WebServer)
    with launched(peer, config) as starting:
        try:
            server = cast("WebServer", starting.server())
        except Unavailable as error:
            raise LoadError(f"repo-notify serve: {error}") from None
        join = "42" + json.dumps(["join", ROOM], separators=(",", ":"))
        script = Script.joining(HOST, server.port, CHAT_PATH, _cookie(config.secret), join.encode())
        yield _Service(workers, script, _pids(server, workers), crowds)
        # In order: workers whose parent is killed would go on beside what is measured next.
        server.process.terminate()
        server.process.wait(2 * STOP_SECONDS)


def _cookie(secret: str) -> str:
    """Return the cookie of a session that the host app would have made."""
    host = Flask(NAME)
    host.secret_key = secret
    signer = SecureCookieSessionInterface().get_signing_serializer(host)
    assert signer is not None
    return f"{COOKIE}={signer.dumps({'user': {'username': READER}})}"


def _pids(server: WebServer, workers: int) -> frozenset[int]:
    """Ask until every worker has answered; raises `LoadError`."""
    found: set[int] = set()
    limit = monotonic() + START_SECONDS
    while len(found) < workers:
        if monotonic() > limit:
            raise LoadError(f"of {workers} workers {len(found)} serve after {START_SECONDS:g} s")
        found.update(int(pid) for pid in WORKER.findall(server.ask("/notify/metrics").text))
        sleep(LOOK_SECONDS)
    return frozenset(found)


SCENARIO = Scenario(
    name=NAME,
    title="Two workers",
    how="Ours alone: `repo-notify serve --workers 2` beside the same command with one, each with its history in one "
    "Redis. A storm of connects and joins comes from two processes of clients, with Flask's signed cookie; "
    f"`POST /notify/events` is sent over {CONNECTIONS} connections that stay open, one event a request, to a room of "
    f"{MEMBERS}, whose members are on either worker. The CPU time is that of all workers, without Redis. Where the "
    "workers, Redis and the clients have no core each there is nothing to gain, and it is not measured.",
    metrics={JOINS: PER_SECOND, EVENTS: PER_SECOND, JOINS_CPU: MICROSECONDS, EVENTS_CPU: MICROSECONDS},
    plotted=(JOINS, EVENTS),
    steps=lambda _: len(WORKERS),
    run=run,
    only=("ours",),
)
