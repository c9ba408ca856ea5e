"""Every REPO_NOTIFY_* key as one table: name, default, check, one line of help. Bad values stop the start."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from . import setting_values as values
from .errors import SettingsError

PREFIX = "REPO_NOTIFY_"

# Read from the environment by the standalone service, `repo-notify publish` and the tests; no settings of an app.
ENVIRONMENT_ONLY = ("REPO_NOTIFY_ENV", "REPO_NOTIFY_TEST_MONGO_URI", "REPO_NOTIFY_URL")

AsyncMode = Literal["gevent", "threading"]
NameSet = Literal["first", "second", "both"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Setting:
    """One setting: the key without its prefix, its default, the check and one line of help.

    The value of a `secret` setting is not repeated in messages.
    """

    key: str
    default: Any
    check: values.Check
    help: str
    secret: bool

    @property
    def name(self) -> str:
        """The key as it stands in `app.config` and in the environment."""
        return PREFIX + self.key


def setting(default: Any, check: values.Check, help: str, *, secret: bool = False) -> Any:  # noqa: A002 - the field's name
    """Declare a field of `Settings`."""
    return field(metadata={"default": default, "check": check, "help": help, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """The checked settings of one app; a field's key is its name in upper case behind `REPO_NOTIFY_`."""

    mongo_uri: str = setting("mongodb://127.0.0.1:27017", values.mongo_uri, "Where the permissions are.", secret=True)
    users_collection: str = setting("system.users", values.text, "The collection of accounts in the database `admin`.")
    chat_path: str = setting("/chat", values.path, "Where Socket.IO is mounted.")
    chat_host: str | None = setting(
        None,
        values.optional(values.web_address),
        "The address that `config.js` tells frontends; by default the one that they asked.",
    )
    config_js: str | None = setting(
        "/config/config.js", values.optional(values.path), "Where `config.js` is served; empty: nowhere."
    )
    http_prefix: str = setting("/notify", values.path, "Where health, metrics and publishing are mounted.")
    namespace: str = setting("/", values.namespace, "The Socket.IO namespace of both protocols.")
    legacy_v4: bool = setting(
        True, values.boolean, "Serve v4 frontends too: rooms, event names, namespace and Engine.IO 3."
    )
    legacy_v4_namespace: str = setting(
        "/legacy_v4", values.namespace, "The further namespace that v4 frontends may use."
    )
    legacy_v4_names: NameSet = setting(
        "first",
        values.choice(*get_args(NameSet)),
        "Which sets of v4 event names are emitted: `first`, `second` or `both`.",
    )
    polling: bool = setting(
        True,
        values.boolean,
        "Serve long-polling, which several processes on one port cannot divide; without it clients need `transports: "
        "['websocket']`.",
    )
    jsonp: bool = setting(
        False, values.boolean, "Serve JSONP polling too, for browsers without CORS (Internet Explorer 9)."
    )
    allowed_origins: tuple[str, ...] = setting(
        (),
        values.origins,
        "Origins that may connect besides the service's own; a list, in the environment separated by commas. `*`: "
        "every origin but `null`; `null`: pages whose origin is hidden. Both without cookies and so without a user.",
    )
    allow_any_origin_credentials: bool = setting(
        False,
        values.boolean,
        "Let cookies count for origins that only `*` or `null` lets in: every page may then act as its visitor.",
    )
    trusted_proxies: int = setting(
        0,
        values.whole(0),
        "How many proxies in front are trusted for X-Forwarded-Proto, -Host, -Port, -For and -Prefix.",
    )
    api_key: str | None = setting(
        None,
        values.optional(values.text),
        "The key for publishing over HTTP and Socket.IO; without one that is off.",
        secret=True,
    )
    max_event_bytes: int = setting(1_048_576, values.whole(1), "The largest request to publish, in bytes.")
    message_queue: str | None = setting(
        None,
        values.optional(values.queue(f"{values.REDIS_EXAMPLE} or {values.AMQP_EXAMPLE}", *values.QUEUE_SCHEMES)),
        "Redis or RabbitMQ, when several processes serve.",
        secret=True,
    )
    message_queue_channel: str = setting(
        "repo_notify", values.text, "The name under which the processes meet in the queue."
    )
    backend_queue: str | None = setting(
        None,
        values.optional(values.queue(values.AMQP_EXAMPLE, *values.AMQP_SCHEMES)),
        "The RabbitMQ of a 3D Repo backend (`cn_queue.host`), in the place of whose chat service this one is.",
        secret=True,
    )
    backend_exchange: str = setting(
        "eventExchange", values.exchange, "The backend's exchange there (`cn_queue.event_exchange`)."
    )
    permission_cache_seconds: float = setting(3.0, values.number(0), "How long an access list is believed, in seconds.")
    permission_cache_size: int = setting(10_000, values.whole(1), "How many access lists are kept.")
    permission_timeout: float = setting(
        4.5,
        values.number(0, above=True),
        "How long the database may take to answer a join, the session store a handshake, in seconds.",
    )
    recheck_seconds: float = setting(
        30.0, values.number(0), "Pause between looks at members' rights, in seconds; 0: none."
    )
    change_streams: bool = setting(
        True,
        values.boolean,
        "Whether changes of rights are heard of from MongoDB as they happen, where it is a replica set.",
    )
    legacy_permissions: bool = setting(
        True,
        values.boolean,
        "Whether older data grants too: the account's own name, templates, `view_model_all_models`; false by default "
        "where REPO_NOTIFY_BACKEND_QUEUE is set.",
    )
    express_secret: tuple[str, ...] | None = setting(
        None,
        values.optional(values.secrets),
        "The `cookie.secret` of an Express app that logs in, several separated by commas; set, sessions are its.",
        secret=True,
    )
    express_sessions: str = setting(
        "admin.sessions", values.collection, "Where an Express app keeps its sessions, as `<database>.<collection>`."
    )
    join_burst: int = setting(2_000, values.whole(1), "How many joins and leaves of one socket are handled at once.")
    join_rate: float = setting(
        500.0, values.number(0, above=True), "How many a second are handled for long; more wait their turn."
    )
    ping_interval: float = setting(25.0, values.number(0, above=True), "Engine.IO's ping interval, in seconds.")
    ping_timeout: float = setting(
        20.0, values.number(0, above=True), "How long a ping may stay unanswered, in seconds."
    )
    connect_timeout: float = setting(
        45.0, values.number(0, above=True), "How long a client may be in no namespace, in seconds."
    )
    max_message_bytes: int = setting(262_144, values.whole(1), "The largest message from a client, in bytes.")
    history: str = setting(
        values.HISTORY_MEMORY,
        values.history,
        "Where what was published is kept for who was away: `memory`; `mongodb`, which survives restarts, for a "
        "service of one process; the address of a Redis, for all processes of a service; or `off`.",
        secret=True,
    )
    history_database: str = setting(
        "repo_notify_history",
        values.database,
        "Its database with `mongodb`, at REPO_NOTIFY_MONGO_URI, whose user needs `readWrite` on it; no teamspace.",
    )
    history_seconds: float = setting(
        300.0, values.number(0, above=True), "For how long, in seconds; for so long a lost connection may come back."
    )
    history_events: int = setting(10_000, values.whole(1), "How many deliveries at most.")
    history_bytes: int = setting(67_108_864, values.whole(1), "How much of them at most, in bytes.")
    position_header: bool = setting(
        False, values.boolean, "Whether each answer of the app says in `X-Notify-Position` how far the history was."
    )
    max_outbox_bytes: int = setting(
        8_388_608,
        values.whole(1),
        "How much may wait for a slow client for more than a moment, in bytes; then it is cut.",
    )
    max_outbox_seconds: float = setting(
        30.0,
        values.number(0, above=True),
        "How long it may wait, in seconds, unless a sixteenth of the bytes above leaves in that time; then it is cut.",
    )
    max_outbox_total_bytes: int = setting(
        268_435_456,
        values.whole(1),
        "How much may wait for all slow clients together, in bytes; then those with the most are cut.",
    )
    max_payload_packets: int = setting(
        1_000, values.whole(1), "How many packets a polling client may send in one payload."
    )
    max_header_bytes: int = setting(
        16_384, values.whole(1), "The largest request line and header fields together, in bytes."
    )
    request_timeout: float = setting(
        75.0,
        values.number(0, above=True),
        "How long a request, or 64 KiB of a body or of an answer, may take to be sent or received, in seconds.",
    )
    shutdown_timeout: float = setting(
        10.0, values.number(0), "How long the service may take to end after SIGTERM, in seconds."
    )
    drain_rate: float = setting(
        1_000.0,
        values.number(0, above=True),
        "How many connections are closed a second when the service ends; more where it would take longer than a "
        "quarter of REPO_NOTIFY_SHUTDOWN_TIMEOUT.",
    )
    async_mode: AsyncMode = setting(
        "gevent", values.choice(*get_args(AsyncMode)), "`gevent`, or `threading` under a threaded server."
    )
    log_level: LogLevel = setting(
        "warning",
        values.in_lower_case(values.choice(*get_args(LogLevel))),
        "What the standalone service logs: `debug`, `info`, `warning` or `error`, and what is worse.",
    )
    log_format: LogFormat = setting(
        "text",
        values.in_lower_case(values.choice(*get_args(LogFormat))),
        "How the standalone service logs: `text`, or `json`, an object a line.",
    )
    access_log: bool = setting(
        False,
        values.boolean,
        "Log each request, without its query, under the service's own server (`repo_notify.access`).",
    )

    @property
    def shares_history(self) -> bool:
        """Whether the history is one for all processes."""
        return self.history.startswith(values.IS_REDIS)


# Defaults that differ where a backend's queue is set: its data is of 2023 at the earliest (spec section 6).
_BEHIND_A_BACKEND: Mapping[str, Any] = {"LEGACY_PERMISSIONS": False}

SETTINGS: tuple[Setting, ...] = tuple(Setting(found.name.upper(), **found.metadata) for found in fields(Settings))


def read(config: Mapping[str, Any]) -> Settings:
    """values.Check every REPO_NOTIFY_* key of `config` and return the settings.

    Raises `SettingsError` with one sentence per wrong or unknown key.
    """
    known = {setting.name for setting in SETTINGS}
    problems = [
        f"{name} is no setting of repo_notify" + _hint(name, known)
        for name in sorted(config)
        if name.startswith(PREFIX) and name not in known and name not in ENVIRONMENT_ONLY
    ]
    found: dict[str, Any] = {}
    defaults = _BEHIND_A_BACKEND if config.get(PREFIX + "BACKEND_QUEUE") else {}
    for setting in SETTINGS:
        value = config.get(setting.name, defaults.get(setting.key, setting.default))
        try:
            found[setting.key.lower()] = setting.check(value)
        except values.Wrong as wrong:
            shown = "what it is" if setting.secret else repr(value)[:80]
            problems.append(f"{setting.name} should be {wrong}, not {shown}")
    if problems:
        raise SettingsError(problems)
    return Settings(**found)


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the REPO_NOTIFY_* keys of the environment, as they go into `app.config`."""
    return {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in ENVIRONMENT_ONLY}


def _hint(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
