"""Whatever fails, every client hears each event once and in order, or is told that it has missed something (section 9).

Connections are dropped, processes killed and begun again, and the broker ends and comes back, at random: by the seed
REPO_NOTIFY_TEST_RECOVERY_SEED, or by one that is printed. REPO_NOTIFY_TEST_RECOVERY_SECONDS says for how long.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from pymongo import MongoClient

from repo_notify import QueuePublisher
from repo_notify.delivery.history.packing import key_of
from tests.conftest import host_defaults
from tests.support import brokers
from tests.support.audience import Place
from tests.support.faults import KEY, Listener, Publisher, Side, Weather, by_http, by_queue
from tests.support.ports import free_port
from tests.support.served import SECONDS, User
from tests.support.until import until
from tests.test_recovery import READER, place
from tests.test_recovery_stores import MongoStore, RedisStore

__all__ = ["place"]

DURATION = float(os.environ.get("REPO_NOTIFY_TEST_RECOVERY_SECONDS", "5"))
SEED = int(os.environ.get("REPO_NOTIFY_TEST_RECOVERY_SEED", random.randrange(1_000_000)))
CLIENTS = 6
# The longest outage; how long everything may take to arrive in the end.
OUTAGE_SECONDS, CALM_SECONDS = 4.0, 30.0
# How long a process runs at least, and a broker, so that there is something to lose.
LIFE_SECONDS = 1.0
# What one process has heard by the message queue, the others have heard so much later, at most.
QUEUE_SECONDS = 1.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(DURATION + 120)]


class Broker:
    """The Redis that is history and queue, which ends and begins again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port, self._running = folder, free_port(), ExitStack()
        self.address = ""
        self.stopped = 0.0

    def start(self) -> None:
        redis = brokers.redis(self._folder, self._port, keeps=True)
        self.address = self._running.enter_context(redis)

    def stop(self, *, forgets: bool) -> None:
        self._running.close()
        self.stopped = monotonic()
        if forgets:
            shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)


class Story:
    """What happens: one action after another."""

    # Who publishes by the message queue, too.
    queue: Publisher | None = None

    def __init__(
        self, chance: random.Random, weather: Weather, sides: list[Side], place: Place, broker: Broker | None
    ) -> None:
        self.chance, self.weather, self.sides, self.place, self.broker = chance, weather, sides, place, broker
        self.listeners: list[Listener] = []
        self.done: list[str] = []
        self._ended = monotonic()
        # What came first by the queue since the broker is back, and when that was heard.
        self._first, self._heard_first = 0, 0.0
        self.actions = [self.listen, self.back] * 8 + [self.drop] * 4 + [self.end_process] + [self.start_process] * 3
        if broker is not None:
            self.actions += [self.stop_broker, self.start_broker]

    def go_on(self) -> None:
        self.chance.choice(self.actions)()
        if self.broker is not None and not self.weather.is_calm and monotonic() - self.broker.stopped > OUTAGE_SECONDS:
            self.start_broker()

    def _is_soon(self) -> bool:
        """Whether something has ended only just now; otherwise something else ends now."""
        soon = monotonic() - self._ended < LIFE_SECONDS
        if not soon:
            self._ended = monotonic()
        return soon

    def up(self) -> list[Side]:
        return [side for side in self.sides if side.is_up]

    def some(self, *, connected: bool) -> Listener | None:
        found = [each for each in self.listeners if each.connected == connected]
        return self.chance.choice(found) if found else None

    def listen(self) -> None:
        if listener := self.some(connected=True):
            listener.listen()
            self._excuse_no_more(listener)

    def drop(self) -> None:
        if listener := self.some(connected=True):
            listener.drop()

    def back(self) -> None:
        listener, up = self.some(connected=False), self.up()
        if listener is None or not up:
            return
        stays = listener.side in up and self.chance.random() < 0.5
        side = listener.side if stays else self.chance.choice(up)
        # Without the broker no process knows of another one's clients.
        listener.excused |= listener.changes_process(side) and not self.weather.is_calm
        listener.connect(side)
        self._excuse_no_more(listener)

    def end_process(self) -> None:
        if not (up := self.up()) or self._is_soon():
            return
        side = self.chance.choice(up)
        number = self.chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        there = [each for each in self.listeners if each.side is side]
        if self.weather.is_calm:
            until(lambda: all(map(self.is_kept, there)), lambda: [each.story[-8:] for each in there])
        check_sum(side)
        self.done.append(f"{side.name} ends by {number.name}")
        side.end(number)
        for listener in there:
            # What nobody but the process knew of.
            listener.excused |= not self.weather.is_calm or self.broker is None
            if listener.connected:
                listener.gone()

    def start_process(self) -> None:
        down = [side for side in self.sides if not side.is_up]
        if down and self.weather.is_calm:
            self.chance.choice(down).start()
            self.done.append("a process begins")

    def stop_broker(self) -> None:
        if self.broker is None or not self.weather.is_calm or self._is_soon():
            return
        self.weather.change()
        forgets = self.chance.random() < 0.3
        for listener in self.listeners:
            # What is published by the queue reaches nobody who is not there, which shows as a hole in its numbers.
            listener.excused |= forgets or self.queue is not None
        self.done.append(f"the broker ends{' and forgets' if forgets else ''}")
        self.broker.stop(forgets=forgets)

    def start_broker(self) -> None:
        if self.broker is None or self.weather.is_calm:
            return
        self.broker.start()
        for side in self.up():
            until(lambda side=side: ready(side) == {"status": "ok"}, lambda side=side: ready(side))  # type: ignore[misc]
        self.weather.change()
        self.done.append("the broker is back")
        self._first, self._heard_first = len(self.queue.events) if self.queue is not None else 0, inf
        for listener in self.listeners:
            if listener.connected:
                listener.listen()
                self._excuse_no_more(listener)

    def _excuse_no_more(self, listener: Listener) -> None:
        if self.weather.is_calm and self._has_shown_holes():
            listener.excused = False

    def _has_shown_holes(self) -> bool:
        """Whether every process has heard by the queue since the broker is back: a hole shows with the next number."""
        queue = self.queue
        if queue is None:
            return True
        if self._heard_first == inf and any(each.last_of(queue) >= self._first for each in self.listeners):
            self._heard_first = monotonic()
        return monotonic() - self._heard_first > QUEUE_SECONDS

    def is_kept(self, listener: Listener) -> bool:
        raise NotImplementedError

    def calm(self) -> None:
        """Have everything work again, and everybody be there."""
        self.start_broker()
        while down := [side for side in self.sides if not side.is_up]:
            down[0].start()
        while any(not each.connected for each in self.listeners):
            self.back()


class OverRedis(Story):
    """Two processes with one history."""

    def is_kept(self, listener: Listener) -> bool:
        assert self.broker is not None
        store = RedisStore(self.broker.address, self.sides[0].config["REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL"])
        return self.place.model in str(store._kept().get(key_of(str(listener.client.pid))))


class OverMongo(Story):
    """One process, whose history outlives it."""

    store: MongoStore

    def is_kept(self, listener: Listener) -> bool:
        found = self.store.database["records"].find_one({"_id": key_of(str(listener.client.pid))})
        return self.place.model in str(found)


def ready(side: Side) -> Any:
    return requests.get(f"{side.url}/notify/readyz", timeout=SECONDS).json()


def check_sum(side: Side) -> None:
    """What was owed in this life of a process has become something, each of it."""
    text = requests.get(f"{side.url}/notify/metrics", timeout=SECONDS).text
    found = {
        tuple(sample.labels.values()) or sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in ("repo_notify_delivery_outcomes", "repo_notify_deliveries_owed_total")
    }
    owed = found.pop("repo_notify_deliveries_owed_total")
    assert owed == sum(found.values()), found
    assert min(found.values()) >= 0, found


def everybody_joins(story: Story, publishers: list[Publisher]) -> None:
    for number in range(CLIENTS):
        side = story.sides[number % len(story.sides)]
        cookie = User(side.served).log_in(READER).cookie
        listener = Listener(f"client {number}", cookie, side, story.place, publishers)
        story.listeners.append(listener)
        listener.connect(side)


def everything_arrives(story: Story) -> None:
    wrong: dict[str, list[str]] = {}

    def is_complete() -> bool:
        for listener in story.listeners:
            listener.listen()
            wrong[listener.name] = listener.lost_or_wrong()
        return not any("missing" in each for found in wrong.values() for each in found)

    def report() -> str:
        for listener in story.listeners:
            if wrong.get(listener.name):
                print(f"{listener.name}: {wrong[listener.name]}: {'; '.join(listener.story)}")
        return str({name: found[:5] for name, found in wrong.items()})

    until(is_complete, report, CALM_SECONDS)
    assert not any(wrong.values()), report()


def tell(story: Story, publishers: list[Publisher]) -> None:
    """Have it happen, and look at what everybody has heard in the end."""
    print(f"REPO_NOTIFY_TEST_RECOVERY_SEED={SEED}")
    everybody_joins(story, publishers)
    for publisher in publishers:
        publisher.start()
    end = monotonic() + DURATION
    while monotonic() < end:
        story.go_on()
    story.calm()
    for publisher in publishers:
        publisher.end()
    everything_arrives(story)
    for side in story.sides:
        check_sum(side)
    events = [event for publisher in publishers for event in publisher.events]
    print(f"{len(events)} events, {sum(event.stored for event in events)} of them acknowledged")
    print(f"{len(story.done)} ends and returns: {'; '.join(story.done)}")
    for found in story.listeners:
        print(f"{found.name}: {len(found.heard)} heard, {found.recoveries} recoveries, {found.gaps} gaps")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def sides(stack: ExitStack, sample: str, names: list[str], config: dict[str, Any]) -> list[Side]:
    common = {**host_defaults(sample), "REPO_NOTIFY_API_KEY": KEY, "REPO_NOTIFY_SHUTDOWN_TIMEOUT": 2, **config}
    found = [Side(name, common) for name in names]
    for side in found:
        stack.callback(side.close)
        side.start()
    return found


@pytest.mark.parametrize("has_queue", [False, True], ids=["history", "history and queue"])
def test_with_one_history_for_two_processes(
    stack: ExitStack, sample: str, place: Place, tmp_path: Path, *, has_queue: bool
) -> None:
    broker, weather = Broker(tmp_path), Weather()
    stack.callback(lambda: broker.stop(forgets=True))
    broker.start()
    channel = f"faults{uuid4().hex}"
    config = {"REPO_NOTIFY_HISTORY": broker.address, "REPO_NOTIFY_MESSAGE_QUEUE_CHANNEL": channel}
    if has_queue:
        config["REPO_NOTIFY_MESSAGE_QUEUE"] = broker.address
    story = OverRedis(random.Random(SEED), weather, sides(stack, sample, ["here", "there"], config), place, broker)
    publishers = [Publisher(f"by {side.name}", place, weather, by_http(side)) for side in story.sides]
    if has_queue:
        queue = stack.enter_context(QueuePublisher(broker.address, channel=channel))
        story.queue = Publisher("by the queue", place, weather, by_queue(queue), in_outages=False)
        publishers.append(story.queue)
    tell(story, publishers)


def test_with_a_history_in_mongodb(
    stack: ExitStack, sample: str, place: Place, mongo: MongoClient[dict[str, Any]]
) -> None:
    name, weather = f"history_{uuid4().hex}", Weather()
    stack.callback(lambda: mongo.drop_database(name))
    config = {"REPO_NOTIFY_HISTORY": "mongodb", "REPO_NOTIFY_HISTORY_DATABASE": name}
    story = OverMongo(random.Random(SEED), weather, sides(stack, sample, ["here"], config), place, None)
    story.store = MongoStore(mongo, name)
    # Each waits for the store, and shares its batches with the others.
    tell(story, [Publisher(f"by {name}", place, weather, by_http(story.sides[0])) for name in ("one", "two", "three")])
