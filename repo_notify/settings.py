"""Every REPO_NOTIFY_* key as one table: name, default, check, one line of help. Bad values stop the start."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from .errors import SettingsError

PREFIX = "REPO_NOTIFY_"

# Read from the environment by the standalone service and the tests; they choose a configuration, they are none.
ENVIRONMENT_ONLY = ("REPO_NOTIFY_ENV", "REPO_NOTIFY_TEST_MONGO_URI")

AsyncMode = Literal["gevent", "threading"]
NameSet = Literal["2018", "2019", "both"]

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")
_NAMESPACE = re.compile(r"/[^,?\s]*")
_QUEUE_SCHEMES = ("redis", "rediss", "amqp", "amqps")


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
    if value == "*":
        return "*"
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value) or not _has_host(value):
        raise _Wrong("origins such as https://app.example.org, without a path")
    return value.lower()


def _origins(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset):
        raise _Wrong("a list of origins such as https://app.example.org")
    return tuple(_origin(origin) for origin in value)


@dataclass(frozen=True)
class Setting:
    """One row of the table: the key without its prefix, its default, the check and one line of help.

    What a `secret` key was given is not repeated in messages.
    """

    key: str
    default: Any
    check: Check
    help: str
    secret: bool = False

    @property
    def name(self) -> str:
        """The key as it stands in `app.config` and in the environment."""
        return PREFIX + self.key


SETTINGS: tuple[Setting, ...] = (
    Setting("MONGO_URI", "mongodb://127.0.0.1:27017", _mongo_uri, "Where the permissions are.", secret=True),
    Setting("USERS_COLLECTION", "system.users", _text, "The collection of accounts in the database `admin`."),
    Setting("CHAT_PATH", "/chat", _path, "Where Socket.IO is mounted."),
    Setting(
        "CHAT_HOST",
        None,
        _optional(_web_address),
        "The address that `config.js` tells frontends; by default the one that they asked.",
    ),
    Setting("CONFIG_JS", "/config/config.js", _optional(_path), "Where `config.js` is served; empty: nowhere."),
    Setting("HTTP_PREFIX", "/notify", _path, "Where health, metrics and publishing over HTTP are mounted."),
    Setting("NAMESPACE", "/", _namespace, "The Socket.IO namespace of both protocols."),
    Setting("LEGACY_V4", True, _boolean, "Serve v4 frontends too: rooms, event names, namespace and Engine.IO 3."),
    Setting("LEGACY_V4_NAMESPACE", "/legacy_v4", _namespace, "The further namespace that v4 frontends may use."),
    Setting(
        "LEGACY_V4_NAMES",
        "2018",
        _choice(*get_args(NameSet)),
        "Which v4 event names are emitted: `2018`, `2019` or `both`.",
    ),
    Setting("JSONP", False, _boolean, "Serve JSONP polling too, for browsers without CORS (Internet Explorer 9)."),
    Setting(
        "ALLOWED_ORIGINS",
        (),
        _origins,
        "Origins that may connect besides the service's own; a list, in the environment separated by commas. `*`: "
        "every origin, but without cookies and so without a user.",
    ),
    Setting(
        "ALLOW_ANY_ORIGIN_CREDENTIALS",
        False,
        _boolean,
        "Let cookies count for origins that only `*` lets in: every page may then act as its visitor.",
    ),
    Setting("TRUSTED_PROXIES", 0, _whole(0), "How many proxies in front are trusted for X-Forwarded-Proto and -Host."),
    Setting(
        "API_KEY", None, _optional(_text), "The key for publishing over HTTP; without one that is off.", secret=True
    ),
    Setting("MAX_EVENT_BYTES", 1_048_576, _whole(1), "The largest body of a publish request, in bytes."),
    Setting(
        "MESSAGE_QUEUE",
        None,
        _optional(_url(*_QUEUE_SCHEMES)),
        "Redis or RabbitMQ, when several processes serve.",
        secret=True,
    ),
    Setting("MESSAGE_QUEUE_CHANNEL", "repo_notify", _text, "The name under which the processes meet in the queue."),
    Setting("PERMISSION_CACHE_SECONDS", 3.0, _number(0), "How long an access list is believed, in seconds."),
    Setting("PERMISSION_CACHE_SIZE", 10_000, _whole(1), "How many access lists are kept."),
    Setting("PERMISSION_TIMEOUT", 4.5, _number(0, above=True), "How long a join waits for the database, in seconds."),
    Setting("RECHECK_SECONDS", 30.0, _number(0), "Pause between looks at members' rights, in seconds; 0: none."),
    Setting("JOIN_BURST", 100, _whole(1), "How many joins and leaves one socket may send at once."),
    Setting("JOIN_RATE", 50.0, _number(0, above=True), "How many a second one socket may send for long."),
    Setting("JOIN_FLOOD", 1_000, _whole(1), "How many refusals for haste close a connection."),
    Setting("PING_INTERVAL", 25.0, _number(0, above=True), "Engine.IO's ping interval, in seconds."),
    Setting("PING_TIMEOUT", 20.0, _number(0, above=True), "How long a ping may stay unanswered, in seconds."),
    Setting("CONNECT_TIMEOUT", 45.0, _number(0, above=True), "How long a client may be in no namespace, in seconds."),
    Setting("MAX_MESSAGE_BYTES", 262_144, _whole(1), "The largest message from a client, in bytes."),
    Setting("MAX_OUTBOX_BYTES", 1_048_576, _whole(1), "How much may wait for a slow client, in bytes; then it is cut."),
    Setting("MAX_OUTBOX_SECONDS", 30.0, _number(0, above=True), "How long a slow client may take nothing, in seconds."),
    Setting("MAX_PAYLOAD_PACKETS", 100, _whole(1), "How many packets a polling client may send in one payload."),
    Setting("SHUTDOWN_TIMEOUT", 10.0, _number(0), "How long the service may take to end after SIGTERM, in seconds."),
    Setting("ASYNC_MODE", "gevent", _choice(*get_args(AsyncMode)), "`gevent`, or `threading` under a threaded server."),
)


@dataclass(frozen=True)
class Settings:
    """The checked settings of one app; the fields are the table's keys in lower case."""

    mongo_uri: str
    users_collection: str
    chat_path: str
    chat_host: str | None
    config_js: str | None
    http_prefix: str
    namespace: str
    legacy_v4: bool
    legacy_v4_namespace: str
    legacy_v4_names: NameSet
    jsonp: bool
    allowed_origins: tuple[str, ...]
    allow_any_origin_credentials: bool
    trusted_proxies: int
    api_key: str | None
    max_event_bytes: int
    message_queue: str | None
    message_queue_channel: str
    permission_cache_seconds: float
    permission_cache_size: int
    permission_timeout: float
    recheck_seconds: float
    join_burst: int
    join_rate: float
    join_flood: int
    ping_interval: float
    ping_timeout: float
    connect_timeout: float
    max_message_bytes: int
    max_outbox_bytes: int
    max_outbox_seconds: float
    max_payload_packets: int
    shutdown_timeout: float
    async_mode: AsyncMode


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
    for setting in SETTINGS:
        value = config.get(setting.name, setting.default)
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


def as_markdown() -> str:
    """Return the settings table of the documentation."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    rows += [f"| `{s.name}` | {_default(s.default)} | {s.help} |" for s in SETTINGS]
    return "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
