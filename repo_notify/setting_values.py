"""What the value of a setting may be: each check returns the value as it is used, or raises `Wrong`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

_ORIGIN = re.compile(r"https?://[^/?#@\s]+")
_NAMESPACE = re.compile(r"/[^,?\s]*")
HISTORY_MEMORY, HISTORY_MONGODB, HISTORY_OFF = "memory", "mongodb", "off"
# As MongoDB limits their names.
_COLLECTION = re.compile(r"""[^/\\. "$*<>:|?\0]{1,63}\.[^$\0\s.][^$\0]*""")
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)
# Of MongoDB and of 3D Repo.
_TAKEN_DATABASES = ("admin", "local", "config", "internal")
_REDIS = ("redis", "rediss")
IS_REDIS = tuple(f"{scheme}://" for scheme in _REDIS)
AMQP_SCHEMES = ("amqp", "amqps")
QUEUE_SCHEMES = (*_REDIS, *AMQP_SCHEMES)
REDIS_EXAMPLE = "redis://host:6379/0"
AMQP_EXAMPLE = "amqp://user:password@host:5672/vhost"


class Wrong(Exception):
    """A value is not what the key wants; the text says what it should be."""


Check = Callable[[Any], Any]


def number(low: float, *, above: bool = False) -> Check:
    """Take a finite number of at least that, or `above` it."""
    bound = f"above {low:g}" if above else f"of at least {low:g}"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise Wrong(f"a number {bound}")
        try:
            number = float(value)
        except ValueError:
            raise Wrong(f"a number {bound}") from None
        if not (low < number if above else low <= number) or number == float("inf"):
            raise Wrong(f"a number {bound}")
        return number

    return check


def whole(low: int) -> Check:
    """Take a whole number of at least that."""
    finite = number(low)

    def check(value: Any) -> int:
        try:
            found = finite(value)
        except Wrong:
            raise Wrong(f"a whole number of at least {low}") from None
        if not found.is_integer():
            raise Wrong(f"a whole number of at least {low}")
        return int(found)

    return check


_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def boolean(value: Any) -> bool:
    """Take true or false, also as the environment says it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise Wrong("true or false")


def choice(*options: str) -> Check:
    """Take one of these words."""

    def check(value: Any) -> str:
        if value not in options:
            raise Wrong("one of " + ", ".join(options))
        return str(value)

    return check


def in_lower_case(check: Check) -> Check:
    """Take what is right in lower case."""
    return lambda value: check(value.lower() if isinstance(value, str) else value)


def path(value: Any) -> str:
    """Take the path of a URL."""
    if not isinstance(value, str) or not re.fullmatch(r"/[^?#\s]*[^?#\s/]", value):
        raise Wrong("a path that starts with / and does not end with it, such as /chat")
    return value


def optional(check: Check) -> Check:
    """Take None, or an empty value as None, or what `check` takes."""
    return lambda value: None if value is None or value == "" else check(value)


def text(value: Any) -> str:
    """Take any text but an empty one."""
    if not isinstance(value, str) or not value:
        raise Wrong("a non-empty string")
    return value


def exchange(value: Any) -> str:
    """Take the name of an exchange, as AMQP has it."""
    # A short string; names that begin with `amq.` are the broker's.
    if not isinstance(value, str) or not 0 < len(value.encode("utf-8", "replace")) < 256 or value.startswith("amq."):
        raise Wrong("the name of an exchange, such as eventExchange")
    return value


def database(value: Any) -> str:
    """Take the name of a database that nobody else has."""
    if not isinstance(value, str) or not _DATABASE.fullmatch(value) or value.lower() in _TAKEN_DATABASES:
        raise Wrong("the name of a database of its own, of letters, digits, _ and -, such as notify_history")
    return value


def namespace(value: Any) -> str:
    """Take a Socket.IO namespace."""
    if not isinstance(value, str) or not _NAMESPACE.fullmatch(value):
        raise Wrong("a Socket.IO namespace that starts with /, such as / or /chat")
    return value


def _url(*schemes: str) -> Check:
    example = "one of the kinds " + ", ".join(f"{scheme}://…" for scheme in schemes)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise Wrong(f"an address, {example}")
        return value

    return check


def mongo_uri(value: Any) -> str:
    """Take the address of a MongoDB, as its driver understands it."""
    found: str = _url("mongodb", "mongodb+srv")(value)
    try:
        # The driver's own parser; it would look the hosts of mongodb+srv up, which is for the first use.
        parse_uri(found.replace("mongodb+srv://", "mongodb://", 1), warn=True)
    except (PyMongoError, ValueError):
        raise Wrong("an address of the kind mongodb://host:27017 or mongodb+srv://host") from None
    return found


def queue(example: str, *schemes: str) -> Check:
    """Check a broker's address, or several separated by `;`, as the broker's driver would take it apart."""
    is_url = _url(*schemes)

    def check(value: Any) -> str:
        found: str = is_url(value)
        for address in found.split(";"):
            is_url(address)
            wrong = next((text for is_right, text in _QUEUE_PARTS if not _holds(is_right, address)), None)
            if wrong is not None:
                raise Wrong(f"an address such as {example}, with {wrong}")
        return found

    return check


def history(value: Any) -> str:
    """Take where a history is kept: a word, or the address of a Redis."""
    is_redis = isinstance(value, str) and value.startswith(IS_REDIS) and ";" not in value
    kinds = in_lower_case(choice(HISTORY_MEMORY, HISTORY_MONGODB, HISTORY_OFF))
    try:
        found: str = queue(REDIS_EXAMPLE, *_REDIS)(value) if is_redis else kinds(value)
    except Wrong:
        raise Wrong(
            f"{HISTORY_MEMORY}, {HISTORY_MONGODB}, {HISTORY_OFF}, or the address of one Redis such as {REDIS_EXAMPLE}"
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


def web_address(value: Any) -> str:
    """Take an address that a browser can reach."""
    found: str = _url("http", "https", "ws", "wss")(value)
    if not _has_host(found):
        raise Wrong("an address such as https://chat.example.org:443")
    return found


def _origin(value: Any) -> str:
    if value in ("*", "null"):
        return str(value)
    if not isinstance(value, str) or not _ORIGIN.fullmatch(value) or not _has_host(value):
        raise Wrong("origins such as https://app.example.org, without a path")
    return value.lower()


def origins(value: Any) -> tuple[str, ...]:
    """Take origins of pages, as a list or between commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset):
        raise Wrong("a list of origins such as https://app.example.org")
    return tuple(_origin(origin) for origin in value)


def secrets(value: Any) -> tuple[str, ...]:
    """Take secrets, as a list or between commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(part, str) and part for part in value):
        raise Wrong("a secret, or several separated by commas")
    return tuple(value)


def collection(value: Any) -> str:
    """Take a collection, behind the name of its database."""
    if not isinstance(value, str) or not _COLLECTION.fullmatch(value):
        raise Wrong("a database and a collection in it, such as admin.sessions")
    return value
