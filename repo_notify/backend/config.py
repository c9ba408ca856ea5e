"""A 3D Repo backend's configuration -> the service's settings. Pure; `config_file` reads the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from repo_notify.errors import SettingsError

# The backend's own defaults.
DEFAULT_HOST, DEFAULT_DATABASE_PORT, DEFAULT_PATH = "127.0.0.1", 27017, "chat"
_ABSENT: Any = object()
Check = Callable[[Any], bool]


@dataclass(frozen=True)
class BackendConfig:
    """What a backend's configuration means for the service: keys of `app.config`, and the port to listen on."""

    settings: Mapping[str, Any]
    port: int


def read_config(document: object) -> BackendConfig:
    """Return what the configuration says; raises `SettingsError` with a sentence for each missing or wrong key."""
    if not isinstance(document, Mapping):
        raise SettingsError(["the configuration should be an object with `servers`, `db`, `cookie` and `cn_queue`"])
    keys = _Keys(document)
    chat = keys.chat_server()
    uri = _mongo_uri(keys)
    keys.find("cookie.maxAge", _is_above_zero, "a number of milliseconds above 0", None)
    settings = {
        "REPO_NOTIFY_CHAT_PATH": "/" + str(chat["subdirectory"]).strip("/"),
        "REPO_NOTIFY_MONGO_URI": uri,
        "REPO_NOTIFY_EXPRESS_SECRET": _listed(keys.find("cookie.secret", _are_texts, "a secret, or a list of them")),
        "REPO_NOTIFY_BACKEND_QUEUE": keys.find("cn_queue.host", _is_amqp, "an address such as amqp://localhost:5672"),
        "REPO_NOTIFY_BACKEND_EXCHANGE": keys.find(
            "cn_queue.event_exchange", _is_text, "an exchange's name, such as eventExchange"
        ),
        "REPO_NOTIFY_LEGACY_PERMISSIONS": False,
        "SESSION_COOKIE_DOMAIN": keys.find("cookie.domain", _is_text, "a domain, such as example.org", None),
    }
    if keys.problems:
        raise SettingsError(keys.problems)
    return BackendConfig(settings, chat["port"])


class _Keys:
    """Looks keys up by their dotted names, and collects what is missing or wrong; values are not repeated."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.problems: list[str] = []

    def find(self, name: str, check: Check, what: str, default: Any = _ABSENT) -> Any:
        """Return the value under a name, `default` where it is not there or null."""
        found: Any = self._document
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return self._checked(name, found, check, what, default)

    def chat_server(self) -> Mapping[str, Any]:
        """Return `port` and `subdirectory` of the chat server's entry."""
        servers = self.find("servers", lambda value: isinstance(value, list), "a list of servers")
        entries = [entry for entry in servers or () if isinstance(entry, Mapping) and entry.get("service") == "chat"]
        if not entries:
            if servers is not None:
                self.problems.append('servers should have an entry with `service: "chat"`, and there is none')
            return {"port": None, "subdirectory": DEFAULT_PATH}
        name = "servers (the chat server's entry)"
        # As the backend: an entry without a port has that of the whole.
        port = self._document.get("port") if entries[0].get("port") is None else entries[0]["port"]
        path = entries[0].get("subdirectory")
        return {
            "port": self._checked(f"{name}: port", port, _is_port, "a port, a whole number up to 65535"),
            "subdirectory": self._checked(f"{name}: subdirectory", path, _is_text, "a path such as chat", DEFAULT_PATH),
        }

    def _checked(self, name: str, found: Any, check: Check, what: str, default: Any = _ABSENT) -> Any:
        if found is None and default is not _ABSENT:
            return default
        if found is not None and check(found):
            return found
        self.problems.append(f"{name} should be {what}, and {'is missing' if found is None else 'is not'}")
        return None


def _mongo_uri(keys: _Keys) -> str | None:
    before = len(keys.problems)
    host = keys.find("host", _is_text, "a host's name", DEFAULT_HOST)
    hosts = _listed(keys.find("db.host", _are_texts, "a host's name, or a list of them", host))
    ports = _listed(keys.find("db.port", _are_ports, "a port, or a list of them", DEFAULT_DATABASE_PORT))
    names = ("username", "password", "replicaSet", "authSource")
    username, password, replica_set, source = (keys.find(f"db.{name}", _is_string, "a string", "") for name in names)
    if len(keys.problems) > before:
        return None
    if len(hosts) != len(ports):
        keys.problems.append(f"db.port should have as many ports as db.host has hosts ({len(hosts)}), not {len(ports)}")
    if len(hosts) > 1 and not replica_set:
        keys.problems.append("db.replicaSet should be the replica set's name, as db.host has several hosts")
    if bool(username) != bool(password):
        keys.problems.append("db.username and db.password should both be there, or neither")
    login = f"{quote(username, safe='')}:{quote(password, safe='')}@" if username and password else ""
    places = ",".join(f"{_in_brackets(host)}:{port}" for host, port in zip(hosts, ports, strict=False))
    options = {name: value for name, value in (("replicaSet", replica_set), ("authSource", source)) if value}
    return f"mongodb://{login}{places}/" + (f"?{urlencode(options)}" if options else "")


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list) else [found]


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_texts(value: Any) -> bool:
    return bool(value) and all(map(_is_text, _listed(value)))


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def _are_ports(value: Any) -> bool:
    return bool(value) and all(map(_is_port, _listed(value)))


def _is_above_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_amqp(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("amqp://", "amqps://"))
