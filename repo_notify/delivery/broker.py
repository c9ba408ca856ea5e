"""Connections to the message broker: Redis or RabbitMQ, by kombu, with a deadline for every read and write.

kombu comes with the extras `redis` and `rabbitmq`, and is imported where a queue is used. It carries bytes only: its
JSON would change data (`{"__type__": ...}`), and raises too late for the publisher.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from repo_notify.errors import SettingsError

from .messages import CONTENT_TYPE

if TYPE_CHECKING:
    from kombu import Connection, Exchange


class _Libraries(NamedTuple):
    """What a kind of broker needs: the modules, and the extra that installs them."""

    broker: str
    modules: tuple[str, ...]
    extra: str


_LIBRARIES = {
    "redis": _Libraries("Redis", ("kombu", "redis", "packaging"), "redis"),
    "amqp": _Libraries("RabbitMQ", ("kombu", "amqp"), "rabbitmq"),
    "history": _Libraries("Redis", ("redis",), "redis"),
}


def require_libraries(url: str, setting: str = "REPO_NOTIFY_MESSAGE_QUEUE") -> None:
    """Raise `SettingsError` with the line that installs them where the libraries of a setting's address are missing."""
    _require({"amqp" if _is_amqp(address) else "redis" for address in url.split(";")}, setting)


def require_redis() -> None:
    """As `require_libraries`, for a history in Redis."""
    _require({"history"}, "REPO_NOTIFY_HISTORY")


def _require(kinds: Collection[str], setting: str) -> None:
    problems = [
        f"{setting} needs packages for {needed.broker} that are not installed ({', '.join(missing)}): "
        f"pip install 'repo_notify[{needed.extra}]'"
        for needed in (_LIBRARIES[kind] for kind in sorted(kinds))
        if (missing := [module for module in needed.modules if not _is_installed(module)])
    ]
    if problems:
        raise SettingsError(problems)


def _is_installed(module: str) -> bool:
    # An imported kombu has no spec, for which `find_spec` raises.
    return module in sys.modules or importlib.util.find_spec(module) is not None


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the broker may take, in seconds.

    `connect` and `io` bound each attempt to connect, each read and each write; `heartbeat` is AMQP's; `release` bounds
    the end of a connection. A process sends a message to itself every `probe` seconds in which it sent nothing else;
    its subscription is given up when nothing at all arrives for `echo` seconds after one was sent, and the queue counts
    as silent after `silent` seconds without one of the process's own messages. The defaults find silence within 15 s.
    """

    connect: float = 3.0
    io: float = 5.0
    heartbeat: int = 5
    release: float = 3.0
    probe: float = 3.0
    echo: float = 6.0
    silent: float = 10.0


def exchange(channel: str) -> Exchange:
    """Return the exchange by which the processes of a service meet."""
    from kombu import Exchange

    return Exchange(channel, type="fanout", durable=False, auto_delete=False)


def connect(url: str, deadlines: Deadlines) -> Connection:
    """Return an open connection to the first address that takes one; raises whatever the transport raises."""
    *others, last = url.split(";")
    for address in others:
        # Each transport raises its own kinds; the next one is as good.
        with contextlib.suppress(Exception):
            return _connect(address, deadlines)
    return _connect(last, deadlines)


def _connect(address: str, deadlines: Deadlines) -> Connection:
    from kombu import Connection

    more: dict[str, Any] = {}
    if address.startswith("amqps"):
        address, more["ssl"] = _with_tls(address)
    connection = Connection(
        address,
        connect_timeout=deadlines.connect,
        heartbeat=deadlines.heartbeat,
        transport_options=_options(address, deadlines),
        **more,
    )
    try:
        connection.ensure_connection(
            max_retries=1, interval_start=0.2, interval_step=0.2, timeout=deadlines.connect
        )
        if _is_amqp(address):
            # py-amqp's own read and write time-outs are socket options, which gevent's non-blocking sockets ignore.
            connection.connection.sock.settimeout(deadlines.io)
    except Exception:
        leave(connection, deadlines, working=False)
        raise
    return connection


def _with_tls(address: str) -> tuple[str, dict[str, Any]]:
    """Return an amqps address without its options, and these as py-amqp understands them.

    kombu would hand them on under the names that Redis has for them, and have no certificate's name checked.
    """
    import ssl

    parts = urlsplit(address)
    options: dict[str, Any] = {key.removeprefix("ssl_"): value for key, value in parse_qsl(parts.query)}
    wanted = options.pop("cert_reqs", "required").removeprefix("CERT_").upper()
    options["cert_reqs"] = ssl.VerifyMode[f"CERT_{wanted}"]
    checks_name = options.pop("check_hostname", "true").lower() != "false"
    if checks_name and options["cert_reqs"] != ssl.CERT_NONE:
        options["server_hostname"] = parts.hostname
    return parts._replace(query="").geturl(), options


def _is_amqp(url: str) -> bool:
    return url.startswith("amqp")


def _options(url: str, deadlines: Deadlines) -> dict[str, float | bool]:
    if _is_amqp(url):
        return {"confirm_publish": True}
    return {
        "socket_connect_timeout": deadlines.connect,
        "socket_timeout": deadlines.io,
        "socket_keepalive": True,
    }


def sender(connection: Connection, channel: str) -> Callable[[bytes], None]:
    """Return what publishes a body and returns when the broker has it."""
    from kombu import Producer

    producer = Producer(connection.channel(), exchange(channel))

    def send(body: bytes) -> None:
        producer.publish(body, content_type=CONTENT_TYPE, content_encoding="binary")

    return send


def leave(connection: Connection, deadlines: Deadlines, *, working: bool) -> None:
    """Close a connection, and wait for that no longer than the deadline; one that does not work is not spoken to."""

    def close() -> None:
        # Whatever closing a broken connection raises, there is nobody left to whom it matters.
        with contextlib.suppress(Exception):
            if working or connection.transport.driver_type != "amqp":
                connection.release()
            else:
                connection.collect()

    closing = threading.Thread(target=close, name="repo_notify-leave", daemon=True)
    closing.start()
    closing.join(deadlines.release)


def describe(error: Exception, url: str) -> str:
    """Return what went wrong, without the passwords of the address."""
    text = str(error) or type(error).__name__
    for address in url.split(";"):
        with contextlib.suppress(ValueError):
            if password := urlsplit(address).password:
                text = text.replace(password, "***").replace(unquote(password), "***")
    return text


def kind(error: Exception) -> str:
    """Return what kind of error it is: kombu's own say less than what they were raised from."""
    return type(error.__cause__ or error).__name__
