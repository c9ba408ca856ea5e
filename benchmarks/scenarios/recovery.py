"""Recovery: what clients get that lose their connection again and again, and how soon."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from time import monotonic

from benchmarks.bench import Bench, Contestant
from benchmarks.figures import BUSY, COMPLETENESS, COUNT, MILLISECONDS, Key
from benchmarks.load.drops import Plan, Recovery, drop_and_recover
from benchmarks.load.frames import event_frame
from benchmarks.load.requests import post_request
from benchmarks.peers import HOST, READER, Order
from benchmarks.scenarios.scenario import Scenario

NAME = "recovery"
DELIVERED, REPEATS, RECOVERED = "delivered", "repeats", "connections recovered"
P50, P99, SERVER_BUSY = "replay p50", "replay p99", "server busy"
PER_SECOND = 20
SMALL_ROOM = 10
EVERYBODY = 0
FILL = 16


def case(clients: int) -> str:
    """Return how so many clients are called."""
    return f"{clients:,} clients dropped"


def run(bench: Bench) -> None:
    """Measure each peer once, on a fresh server: its many reconnections are the rounds."""
    for peer in bench.peers:
        with bench.alone(peer, replace(bench.config, recovery=True)) as contestant:
            if contestant is not None:
                _measure(bench, contestant)
        bench.step()


def members(clients: int) -> list[tuple[int, ...]]:
    """Return the rooms of each client: everybody is in one, and the first half in rooms of ten as well."""
    half = clients // 2
    return [(EVERYBODY, 1 + number // SMALL_ROOM) if number < half else (EVERYBODY,) for number in range(clients)]


def turns(rooms: int) -> list[int]:
    """Return which room gets the next event: everybody's gets every other one, the small ones share the rest."""
    return [room for small in range(1, rooms) for room in (EVERYBODY, small)]


def _measure(bench: Bench, contestant: Contestant) -> None:
    sizes = bench.sizes
    in_rooms = members(sizes.dropped)
    count = 1 + max(room for rooms in in_rooms for room in rooms)
    with bench.teamspace() as teamspace:
        models = [teamspace.model({READER: "viewer"}) for _ in range(count)]
        project = teamspace.project(models)
        rooms = [{"teamspace": teamspace.name, "project": project, "model": model} for model in models]
        contestant.settle()
        started, cpu = monotonic(), contestant.cpu()
        found = contestant.load.run(drop_and_recover, _plan(bench, contestant, rooms, in_rooms))
        busy = (contestant.cpu() - cpu) / (monotonic() - started)
    where = case(sizes.dropped)
    bench.add(NAME, where, DELIVERED, contestant.peer, found.received / found.expected)
    bench.add(NAME, where, REPEATS, contestant.peer, found.repeats)
    bench.add(NAME, where, RECOVERED, contestant.peer, found.recovered / max(1, found.reconnections))
    bench.add(NAME, where, SERVER_BUSY, contestant.peer, busy)
    for metric, share in ((P50, 0.5), (P99, 0.99)):
        bench.add(NAME, where, metric, contestant.peer, _percentile(found.replays, share))
    bench.results.remarks[Key(NAME, where, DELIVERED, contestant.peer.name)] = _in_words(found)


def _plan(
    bench: Bench, contestant: Contestant, rooms: Sequence[dict[str, str]], in_rooms: Sequence[tuple[int, ...]]
) -> Plan:
    sizes = bench.sizes
    room_turns = turns(len(rooms))
    interval_ns = round(1e9 / PER_SECOND)
    order = Order(
        round(sizes.drop_seconds * PER_SECOND),
        interval_ns=interval_ns,
        fill=FILL,
        places=tuple(rooms[room] for room in room_turns),
    )
    port = contestant.server.port
    body = json.dumps(asdict(order)).encode()
    return Plan(
        host=HOST,
        port=port,
        handshake=contestant.script.steps[0][0],
        joins=[event_frame("join", room) for room in rooms],
        members=in_rooms,
        turns=room_turns,
        publish=post_request(HOST, port, "/bench/generate", body, bench.config.api_key),
        events=order.events,
        interval_ns=interval_ns,
        seconds=sizes.drop_seconds,
        every=sizes.drop_every,
        away=sizes.drop_away,
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile, infinity of nothing: then no replay has been seen."""
    return ordered[int(share * (len(ordered) - 1))] if ordered else math.inf


def _in_words(found: Recovery) -> str:
    unseen = sum(map(math.isinf, found.replays))
    return (
        f"{found.received:,} of {found.expected:,} events delivered over {found.reconnections:,} reconnections; "
        f"{len(found.replays):,} times a client had missed something, {unseen:,} times it did not get all of it before "
        f"its next drop; the server itself ended {found.ended:,} connections"
    )


SCENARIO = Scenario(
    name=NAME,
    title="Recovery",
    how="Ours and Node, the latter with `connectionStateRecovery` (in-memory adapter, 120 s, `skipMiddlewares`). "
    "Everybody is in one room, and half of the clients each in a room of ten as well; 20 events a second for 160 s go "
    "by turns to the large room and to one of the small ones. Each client resets its TCP connection about every 15 s "
    "(20 % more or less) and comes back 2 s later, over WebSocket, with the `pid` and the offset that socket.io-client "
    "4.6 would send; where it is not recovered, it joins its rooms again. (The full run; smaller sizes do less.) "
    "Delivered are the numbered events of a client's rooms that reached it, of all that were published there while it "
    "was a member or away, rounded down; repeats are those that came again. A replay lasts from the TCP connect to the "
    "last event that was due while the client was away, and never ends where one of these does not come before the "
    "next drop. Ours asks MongoDB, an embedded one on the same machine, for the rights of who comes back before it "
    "replays anything; Node asks nobody. Unlike elsewhere, the clients decode all that they get. Who comes back is "
    "read before the others: how long one process takes to decode what a thousand hear says nothing of the server. "
    "Measured once, one peer after the other.",
    metrics={
        DELIVERED: COMPLETENESS,
        REPEATS: COUNT,
        RECOVERED: COMPLETENESS,
        P50: MILLISECONDS,
        P99: MILLISECONDS,
        SERVER_BUSY: BUSY,
    },
    plotted=(P99,),
    steps=lambda _: 1,
    run=run,
    only=("ours", "node"),
    most_rounds=1,
)
