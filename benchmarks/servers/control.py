"""What the Python peers have in common: a login, and a route that makes them publish on their own clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from resource import RUSAGE_SELF, getrusage
from typing import Any

import gevent
from flask import Flask, jsonify, request, session
from flask_session import Session
from pymongo import MongoClient

Place = dict[str, str]
Publish = Callable[[Place, dict[str, Any]], None]
# Timers are late by up to a millisecond, which the last stretch makes up for turn by turn.
TIMER_NS = 1_500_000


def use_sessions(app: Flask, config: dict[str, Any]) -> None:
    """Keep sessions where `config` says: in Flask's signed cookie, or in MongoDB with Flask-Session."""
    if config["sessions"] == "mongodb":
        client: MongoClient[dict[str, Any]] = MongoClient(config["mongo_uri"], connect=False)
        app.config.update(SESSION_TYPE="mongodb", SESSION_MONGODB=client)
        Session(app)


def add_control(app: Flask, room: Place, publish: Publish) -> None:
    """Add `POST /bench/login` and `POST /bench/generate`; `publish(place, data)` publishes one event to a room.

    `generate` takes `events`, `burst` (how many in one turn of the loop), `interval_ns` between events (0: none),
    `fill` (bytes) and `places`. It answers `started` and `ended` in ns of CLOCK_MONOTONIC, and the process's CPU time
    between them in seconds: `user`, its own, and `system`, the kernel's. Each event carries when it was due. The places
    get one event each in turn, numbered as `_id`; where there are none, `room` gets all, without numbers.
    """

    @app.post("/bench/login")
    def login() -> Any:
        session["user"] = {"username": request.get_json()["username"]}
        return jsonify({})

    @app.post("/bench/generate")
    def generate() -> Any:
        order = request.get_json()
        before, started = getrusage(RUSAGE_SELF), time.monotonic_ns()
        places = order.pop("places")
        _generate(publish, started, places or [room], numbered=bool(places), **order)
        ended, after = time.monotonic_ns(), getrusage(RUSAGE_SELF)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        return jsonify(started=started, ended=ended, user=user, system=system)


def _generate(
    publish: Publish,
    started: int,
    places: list[Place],
    *,
    numbered: bool,
    events: int,
    burst: int,
    interval_ns: int,
    fill: int,
) -> None:
    filling = "x" * fill
    for index in range(events):
        due = started + index * interval_ns if interval_ns else time.monotonic_ns()
        _sleep_until(due)
        number = {"_id": str(index)} if numbered else {}
        publish(places[index % len(places)], {**number, "at": f"{due:019d}", "fill": filling})
        if (index + 1) % burst == 0:
            gevent.sleep(0)


def _sleep_until(due: int) -> None:
    while (left := due - time.monotonic_ns()) > 0:
        gevent.sleep(max(0, left - TIMER_NS) / 1e9)
