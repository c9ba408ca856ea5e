"""The sweep of rights goes on whatever it meets: one teamspace's trouble keeps nobody else in, and sends nobody out."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from uuid import uuid4

import pytest

from repo_notify import RepoNotify
from repo_notify.serving import state_of
from tests.conftest import UNHURRIED
from tests.support.audience import Place
from tests.support.chat import ChatClient
from tests.support.metrics import metric
from tests.support.mongo_proxy import MongoProxy
from tests.support.people import People
from tests.support.served import Served
from tests.support.teamspaces import Teamspace
from tests.support.threaded import serving
from tests.support.unmeasured import unmeasured
from tests.support.until import until
from tests.test_extension import cookie_of, make_app

Make = Callable[..., Teamspace]
ROOMS = 1_500
MAX_SLICE_SECONDS = 0.005
UNAVAILABLE = "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize("trouble", ["no UTF-8", "silence"])
def test_a_teamspace_that_cannot_be_read_keeps_nobody_elsewhere_in(
    sample: str, serve_host: Callable[..., Served], teamspaces: Make, trouble: str
) -> None:
    broken, sound = Place(teamspaces()), Place(teamspaces())
    for place in (broken, sound):
        place.teamspace.model({"first": "viewer", "xxlast": "viewer"}, _id=place.model)
    with MongoProxy(sample) as database:
        served = serve_host(
            REPO_NOTIFY_MONGO_URI=database.uri,
            REPO_NOTIFY_RECHECK_SECONDS=0.2,
            REPO_NOTIFY_PERMISSION_CACHE_SECONDS=0.1,
            REPO_NOTIFY_PERMISSION_TIMEOUT=0.6,
            REPO_NOTIFY_SHUTDOWN_TIMEOUT=0.2,
        )
        with closing(People(served)) as people:
            first, last = people.client("first"), people.client("xxlast")
            first.join(broken.in_model)
            last.join(sound.in_model)
            if trouble == "silence":
                database.hold(broken.name)
            else:
                sound.teamspace.take("settings", sound.model)
                database.garbled.add(b"xxlast")
            until(lambda: metric(served, "repo_notify_revalidations_total", outcome="unknown") > 0)
            sound.teamspace.model({}, _id=sound.model)
            assert last.hear_event("error")["message"] == "Model not found"
            # Who cannot be looked at is not sent out, and nobody is let in.
            assert first.heard_so_far() == []
            assert last.ask("join", broken.in_model)["code"] == UNAVAILABLE
            assert metric(served, "repo_notify_permission_errors_total") > 0
            database.garbled.clear()
            database.release()
            before = metric(served, "repo_notify_evictions_total")
            broken.teamspace.model({}, _id=broken.model)
            assert first.hear_event("error")["message"] == "Model not found"
            assert metric(served, "repo_notify_evictions_total") == before + 1


def test_the_age_of_the_last_look_at_everybody_starts_anew_with_each(
    serve_host: Callable[..., Served], chat: Callable[..., ChatClient]
) -> None:
    served = serve_host(REPO_NOTIFY_RECHECK_SECONDS=0.5)
    assert metric(served, "repo_notify_recheck_age_seconds") == 0
    chat(served.url)
    until(lambda: metric(served, "repo_notify_recheck_age_seconds") > 0.3)
    until(lambda: metric(served, "repo_notify_recheck_age_seconds") < 0.2)


def test_a_pass_over_many_lets_others_run(
    sample: str, teamspaces: Make, chat: Callable[..., ChatClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    teamspace = teamspaces()
    models = [str(uuid4()) for _ in range(ROOMS)]
    project = teamspace.project(models)
    teamspace.admins("uma")
    teamspace.mongo[teamspace.name]["settings"].insert_many([{"_id": model} for model in models])
    app = make_app(sample, REPO_NOTIFY_PERMISSION_CACHE_SECONDS=60, **UNHURRIED)
    RepoNotify(app)
    with serving(app) as url:
        client = chat(url, cookie=cookie_of(url, "uma"))
        for model in models:
            client.socket.emit("join", {"teamspace": teamspace.name, "project": project, "model": model})
        client.heard_so_far()
        state = state_of(app)
        turns: list[float] = []
        mine = threading.get_ident()

        def sleep(seconds: float = 0) -> None:
            if threading.get_ident() == mine:
                turns.append(time.thread_time())

        monkeypatch.setattr(state.socketio.server, "sleep", sleep)
        state.revalidation.sweep()
        # Neither the measuring for coverage nor the garbage of a whole test run counts.
        gc.collect()
        gc.disable()
        try:
            with unmeasured():
                turns[:] = [time.thread_time()]
                state.revalidation.sweep()
                turns.append(time.thread_time())
        finally:
            gc.enable()
        assert len(turns) > 3
        # All but one: whatever else the machine does may fall into a slice.
        assert sorted(later - earlier for earlier, later in pairwise(turns))[-2] < MAX_SLICE_SECONDS
