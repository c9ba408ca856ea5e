"""What a server of ours may be told, with its defaults, in one place."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from repo_notify.engine.wire.codec import Codec, EngineIO4

from .backlog import OutboxLimits
from .origins import AllowedOrigins

LOGGER = logging.getLogger("repo_notify.engine")
TRANSPORTS = ("polling", "websocket")
# What must be more than nothing.
_POSITIVE = (
    "ping_interval", "ping_timeout", "connect_timeout", "upgrade_timeout", "close_timeout", "attachments_timeout",
    "max_message_bytes", "max_payload_packets", "max_namespaces",
)  # fmt: skip


def _no_hint(asked: str) -> str | None:
    del asked
    return None


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a server; times in seconds, sizes in bytes. Raises `ValueError` naming one that cannot be.

    `async_mode`: python-engineio's name of it, None for the best that is there. `async_handlers=False`: handlers in the
    reader's task. `namespaces`: those that exist without a handler ("*": all).
    `codecs`: protocol generations beside EIO=4; `unsupported_hint(eio)`: the error text for one without.
    `transports`: those that are served; `transport_hint(transport)`: the error text for another.
    `allowed_origins`: those whose pages may ask, or what decides it; `any_origin` lets in every other but `null`,
    `null_origin` that one, with their cookies only where `any_origin_credentials` says so; `cors_credentials`: whether
    browsers are told to send them.
    `max_namespaces`: how many a client may be in at once, and how often it may be refused one.
    `compression_threshold`: from how many bytes on an HTTP answer is compressed. `raw_sockets`: WebSockets without a
    greenlet each, where gevent's server has them on plain TCP.
    """

    async_mode: str | None = None
    async_handlers: bool = True
    namespaces: tuple[str, ...] = ()
    codecs: tuple[Codec, ...] = ()
    unsupported_hint: Callable[[str], str | None] = _no_hint
    transports: tuple[str, ...] = TRANSPORTS
    transport_hint: Callable[[str], str | None] = _no_hint
    allow_upgrades: bool = True
    raw_sockets: bool = True
    ping_interval: float = 25
    ping_timeout: float = 20
    connect_timeout: float = 45
    upgrade_timeout: float = 10
    close_timeout: float = 10
    attachments_timeout: float = 30
    max_message_bytes: int = 1_000_000
    max_payload_packets: int = 1_000
    max_attachments: int = 10
    max_namespaces: int = 100
    outbox: OutboxLimits = field(default_factory=OutboxLimits)
    allowed_origins: AllowedOrigins = ()
    any_origin: bool = False
    any_origin_credentials: bool = False
    null_origin: bool = False
    cors_credentials: bool = True
    http_compression: bool = True
    compression_threshold: int = 1024
    logger: logging.Logger = LOGGER

    def __post_init__(self) -> None:
        values = {**dataclasses.asdict(self.outbox), **{name: getattr(self, name) for name in _POSITIVE}}
        for name, value in values.items():
            if value <= 0:
                raise ValueError(f"{name} should be more than 0, not {value}")
        unknown = set(self.transports) - set(TRANSPORTS)
        if unknown or not self.transports:
            raise ValueError(f"transports should be some of {', '.join(TRANSPORTS)}, not {', '.join(self.transports)}")
        for eio, number in Counter([EngineIO4.eio, *(codec.eio for codec in self.codecs)]).items():
            if number > 1:
                raise ValueError(f"there are two codecs for EIO={eio}")
