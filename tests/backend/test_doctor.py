"""What `repo-notify doctor` says of a backend's exchange, and a start without the libraries that it needs."""

from __future__ import annotations

import subprocess
import sys
from subprocess import CompletedProcess
from uuid import uuid4

import pytest
from kombu import Connection

from tests.conftest import USERS
from tests.support.command import SECONDS, environment, repo_notify
from tests.support.ports import free_port
from tests.support.service import HOST_KEY

pytestmark = pytest.mark.slow


def doctor(sample: str, url: str, exchange: str, **environ: str) -> CompletedProcess[str]:
    return repo_notify(
        "doctor",
        REPO_NOTIFY_MONGO_URI=sample,
        REPO_NOTIFY_USERS_COLLECTION=USERS,
        SECRET_KEY=HOST_KEY,
        REPO_NOTIFY_BACKEND_QUEUE=url,
        REPO_NOTIFY_BACKEND_EXCHANGE=exchange,
        **environ,
    )


def declare(url: str, *, kind: str = "fanout", durable: bool = True) -> str:
    """Make an exchange of a name of its own, and return that."""
    name = f"doctor{uuid4().hex[:8]}"
    with Connection(url) as connection, connection.channel() as channel:
        channel.exchange_declare(name, type=kind, durable=durable, auto_delete=False)
    return name


def test_an_exchange_as_a_backend_makes_it(sample: str, broker: str) -> None:
    name = declare(broker)
    done = doctor(sample, broker, name)
    assert f"ok    the backend's exchange {name} is there, durable and fanout" in done.stdout
    assert done.returncode == 0
    assert "LEGACY_PERMISSIONS" not in done.stdout


def test_older_rights_that_are_on_are_noted(sample: str, broker: str) -> None:
    done = doctor(sample, broker, declare(broker), REPO_NOTIFY_LEGACY_PERMISSIONS="on")
    assert "note  REPO_NOTIFY_LEGACY_PERMISSIONS is on" in done.stdout


@pytest.mark.parametrize(("kind", "durable"), [("topic", True), ("fanout", False)])
def test_an_exchange_of_another_kind(sample: str, broker: str, kind: str, durable: bool) -> None:
    name = declare(broker, kind=kind, durable=durable)
    done = doctor(sample, broker, name)
    assert f"WRONG the exchange {name} is no durable fanout, as a 3D Repo backend makes it: set" in done.stdout
    assert done.returncode == 1


def test_no_exchange_and_none_is_made(sample: str, broker: str) -> None:
    for _ in range(2):
        done = doctor(sample, broker, "nowhere")
        assert "WRONG there is no exchange nowhere at the backend's RabbitMQ: start the 3D Repo backend" in done.stdout


@pytest.mark.parametrize("url", ["amqp://user:hunter2@127.0.0.1:{closed}//", "wrong password"])
def test_a_broker_that_does_not_let_us_in(sample: str, broker: str, url: str) -> None:
    address = broker.replace("guest:guest", "guest:hunter2") if url == "wrong password" else url
    done = doctor(sample, address.format(closed=free_port()), "any")
    assert "WRONG the backend's RabbitMQ cannot be reached" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr


WITHOUT_AMQP = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "amqp" else find(name, *more)
"""


@pytest.mark.parametrize("command", ["doctor", "serve"])
def test_without_the_libraries_the_line_that_installs_them_is_said(sample: str, command: str) -> None:
    run = f"import runpy, sys; sys.argv = ['x', {command!r}]; runpy.run_module('repo_notify', run_name='__main__')"
    environ = {"REPO_NOTIFY_MONGO_URI": sample, "SECRET_KEY": HOST_KEY, "REPO_NOTIFY_BACKEND_QUEUE": "amqp://q//"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_AMQP + run],
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    cure = (
        "REPO_NOTIFY_BACKEND_QUEUE needs packages for RabbitMQ that are not installed (amqp): "
        "pip install 'repo_notify[rabbitmq]'"
    )
    assert cure in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
