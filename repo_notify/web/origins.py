"""Which origins may open a connection, and under which address the service is reached (spec sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.sansio.utils import host_is_trusted

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

WsgiApp = Callable[[dict[str, Any], Any], Any]


def with_port(address: str) -> str:
    """Return `scheme://host:port` of an address, in lower case, the port always written; "" where it is none."""
    try:
        parts = urlsplit(address.lower())
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except (KeyError, ValueError):
        return ""
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}" if host else ""


def own_address(environ: Mapping[str, Any]) -> str:
    """Return the address under which this request reached the service, the port always written."""
    host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    return with_port(f"{environ['wsgi.url_scheme']}://{host}")


def behind_proxies(wsgi: WsgiApp, proxies: int) -> WsgiApp:
    """Wrap `wsgi` so that it sees scheme and host as the outermost of `proxies` trusted proxies saw them."""
    trusted = dict.fromkeys(("x_for", "x_proto", "x_host", "x_port", "x_prefix"), proxies)
    return ProxyFix(wsgi, **trusted) if proxies else wsgi


def as_seen_by_proxies(environ: Mapping[str, Any], proxies: int) -> dict[str, Any]:
    """Return the environ as the outermost of `proxies` trusted proxies saw the request."""
    seen: list[dict[str, Any]] = []

    def note(environ: dict[str, Any], _: Any) -> list[bytes]:
        seen.append(environ)
        return []

    behind_proxies(note, proxies)(dict(environ), None)
    return seen[0]


def public_address(
    environ: Mapping[str, Any], proxies: int, config: Mapping[str, Any], *, forwarded: bool
) -> str | None:
    """Return the address under which the service was asked; None where `Host` may be forged.

    A scheme's default port is left out, as browsers leave it out of an origin.

    Flask's TRUSTED_HOSTS and SERVER_NAME decide where they are set; else whether a trusted proxy has `forwarded` it, or
    it is loopback.
    """
    seen = as_seen_by_proxies(environ, proxies)
    address = own_address(seen)
    host = urlsplit(address).hostname or ""
    trusted, name = config.get("TRUSTED_HOSTS"), config.get("SERVER_NAME")
    if trusted:
        known = host_is_trusted(host, trusted)
    elif name:
        known = address == with_port(f"{seen['wsgi.url_scheme']}://{name}")
    else:
        known = forwarded or _is_loopback(host)
    return address.removesuffix(f":{DEFAULT_PORTS[seen['wsgi.url_scheme']]}") if known else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class OriginCheck:
    """Knows the service's own origin and the listed ones."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = {with_port(origin) for origin in allowed if origin not in ("*", "null")}

    def __call__(self, origin: str, environ: Mapping[str, Any]) -> bool:
        """Whether this is such an origin."""
        address = with_port(origin)
        return bool(address) and (address in self._allowed or address == own_address(environ))
