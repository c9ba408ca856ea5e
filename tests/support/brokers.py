"""Message brokers of the tests' own, on free loopback ports, started and stopped by process id."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kombu import Connection

from tests.support.ports import free_port

SECONDS = 60
# A node takes five seconds to start, and many times that on a busy machine.
START_SECONDS = 100
# Debian's /usr/sbin/rabbitmq-server changes the user and the environment; this is what it runs.
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def binary(*names: str) -> str:
    """Return the first of these programs that is there; without any the test is skipped, and fails where CI is set."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {names[-1]}")
    return found


@contextmanager
def _process(command: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    with (
        log.open("ab") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(env or {})}) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _await(url: str) -> str:
    with Connection(url, connect_timeout=5) as connection:
        connection.ensure_connection(max_retries=1_000, interval_start=0.1, interval_step=0.0, timeout=START_SECONDS)
    return url


@contextmanager
def redis(
    folder: Path, port: int | None = None, *, max_bytes: int | None = None, keeps: bool = False
) -> Iterator[str]:
    """Run a Redis; its address. `max_bytes` (at least 1 MiB) bounds what it takes at once.

    It forgets everything at its end, unless it `keeps` it in the folder.
    """
    port = port or free_port()
    command = [binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command += ["--proto-max-bulk-len", str(max_bytes)] if max_bytes is not None else []
    command += ["--appendonly", "yes"] if keeps else []
    with _process(command, folder / "redis.log"):
        yield _await(f"redis://127.0.0.1:{port}/0")


@contextmanager
def rabbitmq(folder: Path, port: int | None = None, *, max_bytes: int | None = None) -> Iterator[str]:
    """Run a RabbitMQ node with a port mapper of its own; its address. `max_bytes` bounds a message."""
    server, mapper = binary(RABBITMQ, "rabbitmq-server"), binary("epmd")
    port, names = port or free_port(), free_port()
    (folder / "plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(f"max_message_size = {max_bytes}\n" if max_bytes is not None else "")
    env = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"tests{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    with ExitStack() as stack:
        stack.enter_context(_process([mapper, "-port", str(names), "-address", "127.0.0.1"], folder / "epmd.log"))
        stack.enter_context(_process([server], folder / "rabbitmq.log", env))
        yield _await(f"amqp://guest:guest@127.0.0.1:{port}//")


BROKERS = {"redis": redis, "rabbitmq": rabbitmq}
