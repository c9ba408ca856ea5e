"""Every REPO_NOTIFY_* key as one table: name, default, check, one line of help. Bad values stop the start."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from .errors import SettingsError

PREFIX = "REPO_NOTIFY_"

# Read from the environment by the standalone service, `repo-notify publish` and the tests; no settings of an app.
ENVIRONMENT_ONLY = ("REPO_NOTIFY_ENV", "REPO_NOTIFY_TEST_MONGO_URI", "REPO_NOTIFY_URL")

AsyncMode = Literal["gevent", "threading"]
NameSet = Literal["first", "second", "both"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")
_NAMESPACE = re.compile(r"/[^,?\s]*")
HISTORY_MEMORY, HISTORY_MONGODB, HISTORY_OFF = "memory", "mongodb", "off"
# As MongoDB limits their names.
_COLLECTION = re.compile(r"""[^/\\. "$*<>:|?\0]{1,63}\.[^$\0\s.][^$\0]*""")
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)
# Of MongoDB and of 3D Repo.
_TAKEN_DATABASES = ("admin", "local", "config", "internal")
_REDIS = ("redis", "rediss")
_IS_REDIS = tuple(f"{scheme}://" for scheme in _REDIS)
_AMQP_SCHEMES = ("amqp", "amqps")
_QUEUE_SCHEMES = (*_REDIS, *_AMQP_SCHEMES)
_REDIS_EXAMPLE = "redis://host:6379/0"
_AMQP_EXAMPLE = "amqp://user:password@host:5672/vhost"


class _Wrong(Exception):
    """A value is not what the key wants; the text says what it should be."""


Check = Callable[[Any], Any]


def _number(low: float, *, above: bool = False) -> Check:
    bound = f"above {low:g}" if above else f"of at least {low:g}"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _Wrong(f"a number {bound}")
        try:
            number = float(value)
        except ValueError:
            raise _Wrong(f"a number {bound}") from None
        if not (low < number if above else low <= number) or number == float("inf"):
            raise _Wrong(f"a number {bound}")
        return number

    return check


def _whole(low: int) -> Check:
    number = _number(low)

    def check(value: Any) -> int:
        try:
            found = number(value)
        except _Wrong:
            raise _Wrong(f"a whole number of at least {low}") from None
        if not found.is_integer():
            raise _Wrong(f"a whole number of at least {low}")
        return int(found)

    return check


_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise _Wrong("true or false")


def _choice(*options: str) -> Check:
    def check(value: Any) -> str:
        if value not in options:
            raise _Wrong("one of " + ", ".join(options))
        return str(value)

    return check


def _in_lower_case(check: Check) -> Check:
    return lambda value: check(value.lower() if isinstance(value, str) else value)


def _path(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/[^?#\s]*[^?#\s/]", value):
        raise _Wrong("a path that starts with / and does not end with it, such as /chat")
    return value


def _optional(check: Check) -> Check:
    return lambda value: None if value is None or value == "" else check(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong("a non-empty string")
    return value


def _exchange(value: Any) -> str:
    # As AMQP has it: a short string; names that begin with `amq.` are the broker's.
    if not isinstance(value, str) or not 0 < len(value.encode("utf-8", "replace")) < 256 or value.startswith("amq."):
        raise _Wrong("the name of an exchange, such as eventExchange")
    return value


def _database(value: Any) -> str:
    if not isinstance(value, str) or not _DATABASE.fullmatch(value) or value.lower() in _TAKEN_DATABASES:
        raise _Wrong("the name of a database of its own, of letters, digits, _ and -, such as notify_history")
    return value


def _namespace(value: Any) -> str:
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        raise _Wrong("a Socket.IO namespace that starts with /, such as / or /chat")
    return value


def _url(*schemes: str) -> Check:
    example = "one of the kinds " + ", ".join(f"{scheme}://…" for scheme in schemes)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise _Wrong(f"an address, {example}")
        return value

    return check


def _mongo_uri(value: Any) -> str:
    found: str = _url("mongodb", "mongodb+srv")(value)
    try:
        # The driver's own parser; it would look the hosts of mongodb+srv up, which is for the first use.
        parse_uri(found.replace("mongodb+srv://", "mongodb://", 1), warn=True)
    except (PyMongoError, ValueError):
        raise _Wrong("an address of the kind mongodb://host:27017 or mongodb+srv://host") from None
    return found


def _queue(example: str, *schemes: str) -> Check:
    """Check a broker's address, or several separated by `;`, as the broker's driver would take it apart."""
    is_url = _url(*schemes)

    def check(value: Any) -> str:
        found: str = is_url(value)
        for address in found.split(";"):
            is_url(address)
            wrong = next((text for is_right, text in _QUEUE_PARTS if not _holds(is_right, address)), None)
            if wrong is not None:
                raise _Wrong(f"an address such as {example}, with {wrong}")
        return found

    return check


def _history(value: Any) -> str:
    is_redis = isinstance(value, str) and value.startswith(_IS_REDIS) and ";" not in value
    kinds = _in_lower_case(_choice(HISTORY_MEMORY, HISTORY_MONGODB, HISTORY_OFF))
    try:
        found: str = _queue(_REDIS_EXAMPLE, *_REDIS)(value) if is_redis else kinds(value)
    except _Wrong:
        raise _Wrong(
            f"{HISTORY_MEMORY}, {HISTORY_MONGODB}, {HISTORY_OFF}, or the address of one Redis such as {_REDIS_EXAMPLE}"
        ) from None
    return found


def _holds(is_right: Callable[[SplitResult], bool], address: str) -> bool:
    try:
        return is_right(urlsplit(address))
    except ValueError:
        return False


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    # The look-up encodes it so; a label that is empty or too long cannot be.
    return bool(host.encode("idna")) and not re.search(r"\s", parts.netloc)


def _is_database(parts: SplitResult) -> bool:
    return not parts.scheme.startswith("redis") or re.fullmatch(r"(/\d{0,9})?", parts.path) is not None


def _are_tls_options(parts: SplitResult) -> bool:
    options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    wanted = [value for key, value in options if key == "ssl_cert_reqs"]
    return all(key.startswith("ssl_") for key, _ in options) and all(value in _CERT_REQS for value in wanted)


_CERT_REQS = ("required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE")
_QUEUE_PARTS: tuple[tuple[Callable[[SplitResult], bool], str], ...] = (
    (_is_host, "a host's name or IP address"),
    (lambda parts: parts.port is None or 0 < parts.port < 65536, "a port from 1 to 65535"),
    (_is_database, "a database number after the host's slash (Redis)"),
    (lambda parts: not re.search(r"\s", parts.path), "a virtual host without blanks"),
    (_are_tls_options, "no options but ssl_... ones (ssl_cert_reqs: required, optional or none)"),
    (lambda parts: not parts.fragment, "no `#`"),
)


def _has_host(value: str) -> bool:
    """Whether there is a host in an address, and if a port, one that exists."""
    try:
        parts = urlsplit(value)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _web_address(value: Any) -> str:
    found: str = _url("http", "https", "ws", "wss")(value)
    if not _has_host(found):
        raise _Wrong("an address such as https://chat.example.org:443")
    return found


def _origin(value: Any) -> str:
    if value in ("*", "null"):
        return str(value)
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value) or not _has_host(value):
        raise _Wrong("origins such as https://app.example.org, without a path")
    return value.lower()


def _origins(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset):
        raise _Wrong("a list of origins such as https://app.example.org")
    return tuple(_origin(origin) for origin in value)


def _secrets(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(part, str) and part for part in value):
        raise _Wrong("a secret, or several separated by commas")
    return tuple(value)


def _collection(value: Any) -> str:
    if not isinstance(value, str) or not _COLLECTION.fullmatch(value):
        raise _Wrong("a database and a collection in it, such as admin.sessions")
    return value


@dataclass(frozen=True)
class Setting:
    """One setting: the key without its prefix, its default, the check and one line of help.

    The value of a `secret` setting is not repeated in messages.
    """

    key: str
    default: Any
    check: Check
    help: str
    secret: bool

    @property
    def name(self) -> str:
        """The key as it stands in `app.config` and in the environment."""
        return PREFIX + self.key


def setting(default: Any, check: Check, help: str, *, secret: bool = False) -> Any:  # noqa: A002 - the field's name
    """Declare a field of `Settings`."""
    return field(metadata={"default": default, "check": check, "help": help, "secret": secret})




@dataclass(frozen=True)
class Settings:
    """The checked settings of one app; a field's key is its name in upper case behind `REPO_NOTIFY_`."""

    mongo_uri: str = setting("mongodb://127.0.0.1:27017", _mongo_uri, "Where the permissions are.", secret=True)
    users_collection: str = setting("system.users", _text, "The collection of accounts in the database `admin`.")
    chat_path: str = setting("/chat", _path, "Where Socket.IO is mounted.")
    chat_host: str | None = setting(
        None,
        _optional(_web_address),
        "The address that `config.js` tells frontends; by default the one that they asked.",
    )
    config_js: str | None = setting(
        "/config/config.js", _optional(_path), "Where `config.js` is served; empty: nowhere."
    )
    http_prefix: str = setting("/notify", _path, "Where health, metrics and publishing are mounted.")
    namespace: str = setting("/", _namespace, "The Socket.IO namespace of both protocols.")
    legacy_v4: bool = setting(True, _boolean, "Serve v4 frontends too: rooms, event names, namespace and Engine.IO 3.")
    legacy_v4_namespace: str = setting("/legacy_v4", _namespace, "The further namespace that v4 frontends may use.")
    legacy_v4_names: NameSet = setting(
        "first", _choice(*get_args(NameSet)), "Which sets of v4 event names are emitted: `first`, `second` or `both`."
    )
    polling: bool = setting(
        True,
        _boolean,
        "Serve long-polling, which several processes on one port cannot divide; without it clients need `transports: "
        "['websocket']`.",
    )
    jsonp: bool = setting(
        False, _boolean, "Serve JSONP polling too, for browsers without CORS (Internet Explorer 9)."
    )
    allowed_origins: tuple[str, ...] = setting(
        (),
        _origins,
        "Origins that may connect besides the service's own; a list, in the environment separated by commas. `*`: "
        "every origin but `null`; `null`: pages whose origin is hidden. Both without cookies and so without a user.",
    )
    allow_any_origin_credentials: bool = setting(
        False,
        _boolean,
        "Let cookies count for origins that only `*` or `null` lets in: every page may then act as its visitor.",
    )
    trusted_proxies: int = setting(
        0, _whole(0), "How many proxies in front are trusted for X-Forwarded-Proto, -Host, -Port, -For and -Prefix."
    )
    api_key: str | None = setting(
        None, _optional(_text), "The key for publishing over HTTP and Socket.IO; without one that is off.", secret=True
    )
    max_event_bytes: int = setting(1_048_576, _whole(1), "The largest request to publish, in bytes.")
    message_queue: str | None = setting(
        None,
        _optional(_queue(f"{_REDIS_EXAMPLE} or {_AMQP_EXAMPLE}", *_QUEUE_SCHEMES)),
        "Redis or RabbitMQ, when several processes serve.",
        secret=True,
    )
    message_queue_channel: str = setting("repo_notify", _text, "The name under which the processes meet in the queue.")
    backend_queue: str | None = setting(
        None,
        _optional(_queue(_AMQP_EXAMPLE, *_AMQP_SCHEMES)),
        "The RabbitMQ of a 3D Repo backend (`cn_queue.host`), in the place of whose chat service this one is.",
        secret=True,
    )
    backend_exchange: str = setting(
        "eventExchange", _exchange, "The backend's exchange there (`cn_queue.event_exchange`)."
    )
    permission_cache_seconds: float = setting(3.0, _number(0), "How long an access list is believed, in seconds.")
    permission_cache_size: int = setting(10_000, _whole(1), "How many access lists are kept.")
    permission_timeout: float = setting(
        4.5,
        _number(0, above=True),
        "How long the database may take to answer a join, the session store a handshake, in seconds.",
    )
    recheck_seconds: float = setting(30.0, _number(0), "Pause between looks at members' rights, in seconds; 0: none.")
    change_streams: bool = setting(
        True, _boolean, "Whether changes of rights are heard of from MongoDB as they happen, where it is a replica set."
    )
    legacy_permissions: bool = setting(
        True,
        _boolean,
        "Whether older data grants too: the account's own name, templates, `view_model_all_models`; false by default "
        "where REPO_NOTIFY_BACKEND_QUEUE is set.",
    )
    express_secret: tuple[str, ...] | None = setting(
        None,
        _optional(_secrets),
        "The `cookie.secret` of an Express app that logs in, several separated by commas; set, sessions are its.",
        secret=True,
    )
    express_sessions: str = setting(
        "admin.sessions", _collection, "Where an Express app keeps its sessions, as `<database>.<collection>`."
    )
    join_burst: int = setting(2_000, _whole(1), "How many joins and leaves of one socket are handled at once.")
    join_rate: float = setting(
        500.0, _number(0, above=True), "How many a second are handled for long; more wait their turn."
    )
    ping_interval: float = setting(25.0, _number(0, above=True), "Engine.IO's ping interval, in seconds.")
    ping_timeout: float = setting(20.0, _number(0, above=True), "How long a ping may stay unanswered, in seconds.")
    connect_timeout: float = setting(
        45.0, _number(0, above=True), "How long a client may be in no namespace, in seconds."
    )
    max_message_bytes: int = setting(262_144, _whole(1), "The largest message from a client, in bytes.")
    history: str = setting(
        HISTORY_MEMORY,
        _history,
        "Where what was published is kept for who was away: `memory`; `mongodb`, which survives restarts, for a "
        "service of one process; the address of a Redis, for all processes of a service; or `off`.",
        secret=True,
    )
    history_database: str = setting(
        "repo_notify_history",
        _database,
        "Its database with `mongodb`, at REPO_NOTIFY_MONGO_URI, whose user needs `readWrite` on it; no teamspace.",
    )
    history_seconds: float = setting(
        300.0, _number(0, above=True), "For how long, in seconds; for so long a lost connection may come back."
    )
    history_events: int = setting(10_000, _whole(1), "How many deliveries at most.")
    history_bytes: int = setting(67_108_864, _whole(1), "How much of them at most, in bytes.")
    position_header: bool = setting(
        False, _boolean, "Whether each answer of the app says in `X-Notify-Position` how far the history was."
    )
    max_outbox_bytes: int = setting(
        8_388_608, _whole(1), "How much may wait for a slow client for more than a moment, in bytes; then it is cut."
    )
    max_outbox_seconds: float = setting(
        30.0,
        _number(0, above=True),
        "How long it may wait, in seconds, unless a sixteenth of the bytes above leaves in that time; then it is cut.",
    )
    max_outbox_total_bytes: int = setting(
        268_435_456,
        _whole(1),
        "How much may wait for all slow clients together, in bytes; then those with the most are cut.",
    )
    max_payload_packets: int = setting(1_000, _whole(1), "How many packets a polling client may send in one payload.")
    max_header_bytes: int = setting(16_384, _whole(1), "The largest request line and header fields together, in bytes.")
    request_timeout: float = setting(
        75.0,
        _number(0, above=True),
        "How long a request, or 64 KiB of a body or of an answer, may take to be sent or received, in seconds.",
    )
    shutdown_timeout: float = setting(
        10.0, _number(0), "How long the service may take to end after SIGTERM, in seconds."
    )
    drain_rate: float = setting(
        1_000.0,
        _number(0, above=True),
        "How many connections are closed a second when the service ends; more where it would take longer than a "
        "quarter of REPO_NOTIFY_SHUTDOWN_TIMEOUT.",
    )
    async_mode: AsyncMode = setting(
        "gevent", _choice(*get_args(AsyncMode)), "`gevent`, or `threading` under a threaded server."
    )
    log_level: LogLevel = setting(
        "warning",
        _in_lower_case(_choice(*get_args(LogLevel))),
        "What the standalone service logs: `debug`, `info`, `warning` or `error`, and what is worse.",
    )
    log_format: LogFormat = setting(
        "text",
        _in_lower_case(_choice(*get_args(LogFormat))),
        "How the standalone service logs: `text`, or `json`, an object a line.",
    )
    access_log: bool = setting(
        False, _boolean, "Log each request, without its query, under the service's own server (`repo_notify.access`)."
    )

    @property
    def shares_history(self) -> bool:
        """Whether the history is one for all processes."""
        return self.history.startswith(_IS_REDIS)


# Defaults that differ where a backend's queue is set: its data is of 2023 at the earliest (spec section 6).
_BEHIND_A_BACKEND: Mapping[str, Any] = {"LEGACY_PERMISSIONS": False}

SETTINGS: tuple[Setting, ...] = tuple(Setting(found.name.upper(), **found.metadata) for found in fields(Settings))


def read(config: Mapping[str, Any]) -> Settings:
    """Check every REPO_NOTIFY_* key of `config` and return the settings.

    Raises `SettingsError` with one sentence per wrong or unknown key.
    """
    known = {setting.name for setting in SETTINGS}
    problems = [
        f"{name} is no setting of repo_notify" + _hint(name, known)
        for name in sorted(config)
        if name.startswith(PREFIX) and name not in known and name not in ENVIRONMENT_ONLY
    ]
    values: dict[str, Any] = {}
    defaults = _BEHIND_A_BACKEND if config.get(PREFIX + "BACKEND_QUEUE") else {}
    for setting in SETTINGS:
        value = config.get(setting.name, defaults.get(setting.key, setting.default))
        try:
            values[setting.key.lower()] = setting.check(value)
        except _Wrong as wrong:
            shown = "what it is" if setting.secret else repr(value)[:80]
            problems.append(f"{setting.name} should be {wrong}, not {shown}")
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the REPO_NOTIFY_* keys of the environment, as they go into `app.config`."""
    return {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in ENVIRONMENT_ONLY}


def _hint(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
