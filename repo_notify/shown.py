"""What the metrics show of the state that others keep: asked for when they are read."""

from __future__ import annotations

import platform

from .engine import Server
from .engine.engine_io.backlog import Backlogs
from .events import EVENT_TYPES
from .metrics import Samples
from .state import State

# Shown although there are none.
_NO_CONNECTIONS: Samples = {("4", "polling"): 0, ("4", "websocket"): 0}


def show(state: State, version: str) -> None:
    """Have the metrics of an app show what its parts keep, and which version of the package it is."""
    metrics, sockets, server = state.metrics, state.sockets, state.socketio.server
    metrics.published.start((name,) for name in EVENT_TYPES)
    metrics.connections.watch(lambda: {**_NO_CONNECTIONS, **sockets.counts()})
    metrics.rooms.watch(lambda: {(): sockets.count_rooms()})
    metrics.deliveries.watch(lambda: {(): state.accounts.handed})
    mode = state.socketio.async_mode
    build = (version, platform.python_version(), mode)
    metrics.build_info.watch(lambda: {build: 1})
    if mode == "gevent":
        metrics.loop_lag.watch(lambda: {(): state.loop_lag.seconds()})
    if isinstance(server, Server):
        engine = server.eio
        metrics.outbox_bytes.watch(lambda: {(): engine.backlogs.total})
        metrics.slow_clients.watch(lambda: {(limit,): number for limit, number in engine.slow_clients.items()})
        _watch_history(state, engine.backlogs)


def _watch_history(state: State, backlogs: Backlogs) -> None:
    history, recoveries, accounts, metrics = state.history, state.recoveries, state.accounts, state.metrics
    if history is None or recoveries is None:
        return
    metrics.lost_clients.watch(lambda: {(): len(recoveries.records)})
    metrics.history_events.watch(lambda: {(): len(history)})
    metrics.history_bytes.watch(lambda: {(): history.size})
    metrics.history_seconds.watch(lambda: {(): history.seconds})
    metrics.history_holes.watch(lambda: {(): history.holes})
    if (keeping := state.keeping).writer is not None:
        metrics.history_store_up.watch(lambda: {(): float(keeping.problem() is None)})
        metrics.history_waiting.watch(lambda: {(): keeping.waiting})
    metrics.owed.watch(lambda: {(): accounts.owed})
    metrics.outcomes.watch(
        lambda: {(outcome,): number for outcome, number in accounts.became(backlogs.superseded).items()}
    )
