"""A backend's RabbitMQ behind TLS: its certificate is verified, by an authority that the operator may name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import amqp
import pytest
from pymongo import MongoClient

from tests.backend.conftest import ROOM, Site, ready, settings, until_ready
from tests.backend.test_doctor import doctor
from tests.support import brokers
from tests.support.backend import backend
from tests.support.chat import ChatClient
from tests.support.ports import free_port
from tests.support.served import Served, host_app
from tests.support.tls import certificates

pytestmark = pytest.mark.slow

# Enough for messages to gather (`exchange.GATHERING_RATE`).
MANY = 5_000


class Broker(NamedTuple):
    """A broker that is reached without TLS, and with it on a port of its own; and who signed for its certificate."""

    plain: str
    port: int
    authority: Path

    def address(self, host: str, **options: str) -> str:
        """Return the address with TLS, with these options."""
        query = "&".join(f"ssl_{key}={quote(value)}" for key, value in options.items())
        return f"amqps://guest:guest@{host}:{self.port}//" + (f"?{query}" if query else "")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder, port = tmp_path_factory.mktemp("rabbitmq"), free_port()
    authority, certificate = certificates(folder)
    with brokers.rabbitmq(folder, tls=(port, certificate)) as plain:
        yield Broker(plain, port, authority)


@pytest.fixture
def serve(sample: str) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def make(url: str, exchange: str) -> Served:
            return stack.enter_context(host_app(settings(sample, url, exchange)))

        yield make


def test_a_certificate_that_is_verified(
    serve: Callable[..., Served], broker: Broker, mongo: MongoClient[dict[str, Any]], chat: Callable[..., ChatClient]
) -> None:
    exchange = f"tls{uuid4().hex[:8]}"
    served = serve(broker.address("localhost", ca_certs=str(broker.authority)), exchange)
    until_ready(served)
    with backend(broker.plain, mongo, exchange) as publishing:
        client = Site(served, publishing, chat).joined("carol", ROOM)
        channel = publishing.connection.channel()
        for number in range(MANY):
            message = {"event": "containerNewTicket", "data": number, "recipients": ["::".join(ROOM.values())]}
            channel.basic_publish(amqp.Message(json.dumps(message).encode()), exchange, "")
        heard = [client.hear_event("containerNewTicket") for _ in range(MANY)]
        assert heard == list(range(MANY))


@pytest.mark.parametrize(
    ("host", "knows_authority"), [("localhost", False), ("127.0.0.1", True)], ids=["unknown authority", "other name"]
)
def test_a_certificate_that_is_not(
    serve: Callable[..., Served], broker: Broker, host: str, knows_authority: bool
) -> None:
    options = {"ca_certs": str(broker.authority)} if knows_authority else {}
    served = serve(broker.address(host, **options), "any")
    until_ready(served, 503)
    assert "SSLCertVerificationError" in ready(served).json()["reasons"]["backend_queue"]


@pytest.mark.parametrize("options", [{"cert_reqs": "none"}, {"check_hostname": "false"}])
def test_what_is_not_to_be_verified(serve: Callable[..., Served], broker: Broker, options: dict[str, str]) -> None:
    until_ready(serve(broker.address("127.0.0.1", ca_certs=str(broker.authority), **options), "any"))


def test_doctor_looks_at_the_exchange_by_tls(sample: str, broker: Broker) -> None:
    done = doctor(sample, broker.address("localhost", ca_certs=str(broker.authority)), "nowhere")
    assert "WRONG there is no exchange nowhere at the backend's RabbitMQ" in done.stdout
    done = doctor(sample, broker.address("localhost"), "nowhere")
    assert "WRONG the backend's RabbitMQ cannot be reached (SSLCertVerificationError)" in done.stdout
