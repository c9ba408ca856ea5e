"""How much a run does: the full one for docs/performance.md, a quick one while developing, a smoke test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Numbers of sockets, events and seconds; `deliveries` bounds one measurement of the fan-out.

    `slow` is the fan-out with stalled clients: members, how many stall, events and bytes of each event's filling.
    `evicted` members lose a right, `evictions` times; each time events go to as many others for `eviction_seconds`.
    A room that is small gets `events` at most, whatever its deliveries; in `history_rooms` ours is measured with a
    history, too. For `look_seconds` the load of others is watched before each scenario. Idle connections are pinged
    every `heartbeat_seconds`, for `idle_seconds`. `dropped` clients lose their connection every `drop_every` seconds,
    and come back `drop_away` seconds later. `killed` clients are there when a process is killed, `rolled` ones through
    a rolling restart; events go to them for `restart_calm` seconds before that, and as long when they are back.
    Two workers want `worker_cores` of the machine.
    A backend publishes `backend_rate` messages a second to `backend_rooms` rooms of ten.
    """

    rounds: int
    rooms: tuple[int, ...]
    history_rooms: tuple[int, ...]
    deliveries: int
    burst_deliveries: int
    events: int
    rates: tuple[int, ...]
    rate_room: int
    rate_seconds: float
    storm: int
    idle: int
    heartbeat_seconds: int
    idle_seconds: float
    sockets: tuple[int, ...]
    batch: int
    slow_members: int
    slow_stalled: int
    slow_events: int
    slow_bytes: int
    evicted: int
    evictions: int
    eviction_seconds: float
    sweep_members: int
    sweep_seconds: float
    rooms_at_once: int
    dropped: int
    drop_seconds: float
    drop_every: float
    drop_away: float
    killed: int
    rolled: int
    restart_calm: float
    probe_seconds: float
    publish_seconds: float
    publishes: int
    look_seconds: float
    backend_rooms: int
    backend_rate: int
    backend_seconds: float
    worker_cores: int


FULL = Sizes(
    rounds=5,
    rooms=(2, 5, 10, 100, 1_000, 5_000),
    history_rooms=(10, 1_000),
    deliveries=50_000,
    burst_deliveries=100_000,
    events=10_000,
    rates=(2_000, 20_000, 100_000),
    rate_room=1_000,
    rate_seconds=1.5,
    storm=3_000,
    heartbeat_seconds=25,
    idle_seconds=25.0,
    idle=10_000,
    sockets=(1_000, 5_000, 15_000),
    batch=500,
    slow_members=1_000,
    slow_stalled=100,
    slow_events=100,
    slow_bytes=32_000,
    evicted=1_000,
    evictions=20,
    eviction_seconds=1.5,
    sweep_members=15_000,
    sweep_seconds=4.0,
    rooms_at_once=500,
    dropped=1_000,
    drop_seconds=160.0,
    drop_every=15.0,
    drop_away=2.0,
    killed=1_000,
    rolled=2_000,
    restart_calm=2.0,
    probe_seconds=0.5,
    publish_seconds=1.0,
    publishes=10_000,
    look_seconds=1.0,
    backend_rooms=100,
    backend_rate=1_000,
    backend_seconds=6.0,
    worker_cores=4,
)
QUICK = Sizes(
    rounds=2,
    rooms=(2, 10, 1_000),
    history_rooms=(10, 1_000),
    deliveries=20_000,
    burst_deliveries=50_000,
    events=5_000,
    rates=(20_000,),
    rate_room=1_000,
    rate_seconds=0.5,
    storm=200,
    heartbeat_seconds=10,
    idle_seconds=10.0,
    idle=1_000,
    sockets=(200, 1_000),
    batch=100,
    slow_members=100,
    slow_stalled=10,
    slow_events=100,
    slow_bytes=32_000,
    evicted=200,
    evictions=3,
    eviction_seconds=1.0,
    sweep_members=2_000,
    sweep_seconds=2.0,
    rooms_at_once=200,
    dropped=200,
    drop_seconds=20.0,
    drop_every=15.0,
    drop_away=2.0,
    killed=200,
    rolled=200,
    restart_calm=1.0,
    probe_seconds=0.3,
    publish_seconds=0.3,
    publishes=5_000,
    look_seconds=0.5,
    backend_rooms=100,
    backend_rate=1_000,
    backend_seconds=3.0,
    worker_cores=4,
)
SMOKE = Sizes(
    rounds=1,
    rooms=(3,),
    history_rooms=(3,),
    deliveries=500,
    burst_deliveries=500,
    events=500,
    rates=(100,),
    rate_room=10,
    rate_seconds=0.2,
    storm=10,
    heartbeat_seconds=1,
    idle_seconds=3.0,
    idle=10,
    sockets=(10, 20),
    batch=5,
    slow_members=10,
    slow_stalled=2,
    slow_events=50,
    slow_bytes=32_000,
    evicted=5,
    evictions=2,
    eviction_seconds=0.5,
    sweep_members=20,
    sweep_seconds=0.3,
    rooms_at_once=10,
    dropped=20,
    drop_seconds=1.0,
    drop_every=0.5,
    drop_away=0.2,
    killed=20,
    rolled=20,
    restart_calm=0.3,
    probe_seconds=0.2,
    publish_seconds=0.1,
    publishes=100,
    look_seconds=0.1,
    backend_rooms=2,
    backend_rate=50,
    backend_seconds=0.4,
    worker_cores=1,
)
SIZES = {"full": FULL, "quick": QUICK, "smoke": SMOKE}
