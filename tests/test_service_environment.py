"""What the standalone service takes from its environment: sessions in Redis, its port, what is meant for others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from flask import Flask, session
from flask_session import Session
from redis import Redis

from repo_notify import SettingsError
from repo_notify.app import create_app
from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.support import brokers
from tests.support.chat import ChatClient
from tests.support.ports import free_port
from tests.support.served import SECONDS
from tests.support.service import service, service_environment

pytestmark = pytest.mark.slow

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
# No `--port` and no `--config`: both come from the environment, or are not there.
COMMAND = ["-m", "repo_notify", "serve"]


def logged_in(redis: str) -> str:
    """Log in at a REST API that keeps its sessions in Redis; return the cookie."""
    app = Flask("rest")
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis.from_url(redis), SESSION_COOKIE_NAME="connect.sid")
    Session(app)

    @app.get("/log-in")
    def log_in() -> str:
        session["user"] = {"username": "carol"}
        return "logged in"

    client = app.test_client()
    client.get("/log-in")
    cookie = client.get_cookie("connect.sid")
    assert cookie is not None
    app.config["SESSION_REDIS"].close()
    return f"connect.sid={cookie.value}"


def test_sessions_in_redis_by_address(sample: str, tmp_path: Path, chat: Callable[..., ChatClient]) -> None:
    port = free_port()
    with brokers.redis(tmp_path) as redis:
        env = service_environment(
            sample,
            SESSION_TYPE="redis",
            SESSION_REDIS=redis,
            # For `repo-notify publish`, in an environment that commands share.
            REPO_NOTIFY_URL="http://127.0.0.1:1",
        )
        del env["REPO_NOTIFY_ENV"]
        with service(COMMAND, env, port) as served:
            client = chat(served.url, cookie=logged_in(redis))
            assert client.ask("join", ROOM)["event"] == "success"
            assert chat(served.url).ask("join", ROOM)["code"] == "UNAUTHORISED"
            assert requests.get(served.url + "/notify/readyz", timeout=SECONDS).status_code == 200


@pytest.mark.parametrize("address", ["secret@nowhere", "http://:secret@127.0.0.1", "redis://:secret@127.0.0.1:port/0"])
def test_a_wrong_address_is_told_without_it(address: str) -> None:
    with pytest.raises(SettingsError, match="SESSION_REDIS should be an address such as redis://") as caught:
        create_app({"SESSION_TYPE": "redis", "SESSION_REDIS": address})
    assert "secret" not in str(caught.value)
