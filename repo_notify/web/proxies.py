"""A ProxyFix that the host has put around its app: what it trusts counts for the service, too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from .origins import WsgiApp, as_seen_by_proxies, behind_proxies

# Under which names middlewares keep what they wrap.
_WRAPPED = ("app", "wsgi_app", "application")
_MAX_DEPTH = 20
# Segments that are no empty ones: `//` would be another host.
_PREFIX = re.compile(r"(/[\w.~%!$&'()*+,;=:@-]+)+")


def find_proxy_fix(wsgi: Any) -> ProxyFix | None:
    """Return the first ProxyFix among the middlewares around an app, from the outermost on."""
    return next((found for found in _middlewares(wsgi) if isinstance(found, ProxyFix)), None)


def _middlewares(wsgi: Any) -> Iterator[Any]:
    for _ in range(_MAX_DEPTH):
        yield wsgi
        if isinstance(wsgi, Flask):
            return
        wsgi = next((vars(wsgi)[name] for name in _WRAPPED if name in getattr(wsgi, "__dict__", ())), None)
        if wsgi is None:
            return


def as_the_host_sees(engine: WsgiApp, inner: Any, proxies: int) -> WsgiApp:
    """Return the engine behind the proxies that the settings trust, or else those that `inner`, the host's app, does.

    A ProxyFix around `inner` is passed by, as clients go to the engine before it.
    """
    fix = find_proxy_fix(inner)
    if proxies or fix is None:
        return behind_proxies(engine, proxies)
    return ProxyFix(
        engine, x_for=fix.x_for, x_proto=fix.x_proto, x_host=fix.x_host, x_port=fix.x_port, x_prefix=fix.x_prefix
    )


def host_is_forwarded(app: Flask, environ: Mapping[str, Any], proxies: int) -> bool:
    """Return whether a proxy that is trusted, by the settings or by the host, has named the host of this request."""
    fix = find_proxy_fix(app.wsgi_app)
    return "HTTP_X_FORWARDED_HOST" in environ and bool(proxies or (fix is not None and fix.x_host))


def prefix_of(environ: Mapping[str, Any], proxies: int) -> str:
    """Return the path below which the app is mounted, as browsers see it; "" for the root, and for what is no path."""
    prefix = str(as_seen_by_proxies(environ, proxies).get("SCRIPT_NAME", "")).rstrip("/")
    return prefix if _PREFIX.fullmatch(prefix) else ""
