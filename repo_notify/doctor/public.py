"""The service as browsers find it, through whatever proxies there are: config.js, polling, WebSocket, cookies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import NamedTuple
from urllib.parse import urlsplit

from wsproto.utilities import ProtocolError

from repo_notify.settings import Settings
from repo_notify.web.origins import with_port

from .checks import covers
from .findings import Finding, note, ok, wrong
from .wire import Answer, Refused, WebSocket, fetch

_OPEN, _CLOSE, _CONNECT, _EVENT = "0", "1", "40", "42"
_TEXT = r'"(?:[^"\\]|\\.)*"'
_CURE_PROXY = (
    "have the proxy send Host, X-Forwarded-Proto and X-Forwarded-Host, and set REPO_NOTIFY_TRUSTED_PROXIES to the "
    "number of proxies"
)
# What an answer that refuses says, and what that means.
_REFUSALS = {
    "Origin not allowed": "the origin {origin} is refused: list it in REPO_NOTIFY_ALLOWED_ORIGINS; if it is the "
    "service's own, " + _CURE_PROXY,
    "Not an accepted origin": "the origin {origin} is refused: list it in cors_allowed_origins of your SocketIO",
    "Not a WebSocket opening handshake": "the proxy does not pass the upgrade on: in nginx `proxy_http_version 1.1;`, "
    '`proxy_set_header Upgrade $http_upgrade;` and `proxy_set_header Connection "upgrade";`',
    "Session ID unknown": "a second request reached another process: have the proxy send a client's requests to one "
    "(`hash` or `ip_hash` in nginx)",
    "Unsupported protocol version": "the server does not speak Engine.IO 4: have the proxy pass the query on",
    "The server is shutting down": "this process is about to end: try again",
}
_STATUSES = {
    301: "it is answered with a redirect: name the address to which it leads in --url",
    302: "it is answered with a redirect: name the address to which it leads in --url",
    307: "it is answered with a redirect: name the address to which it leads in --url",
    308: "it is answered with a redirect: name the address to which it leads in --url",
    401: "the proxy wants a login (401): exempt the path {path}",
    403: "the proxy forbids it (403): allow the path {path}",
    404: "nothing is there (404): have the proxy pass the path {path} on to the service, unchanged",
    502: "the proxy does not reach the service (502): start it, or correct its address in the proxy",
    503: "the proxy does not reach the service (503): start it, or correct its address in the proxy",
    504: "the service does not answer the proxy in time (504): look at its log",
}


class Site(NamedTuple):
    """Where browsers find the service, from which page they come, and the `Cookie` header that they send."""

    base: str
    path: str
    origin: str
    cookie: str | None
    namespace: str

    @property
    def headers(self) -> Mapping[str, str]:
        """What a browser sends."""
        return {"Origin": self.origin, **({"Cookie": self.cookie} if self.cookie else {})}

    def address(self, transport: str) -> str:
        """Return the address of a handshake."""
        return f"{self.base}{self.path}/?EIO=4&transport={transport}"


def visit(settings: Settings, url: str, origin: str | None, cookie: str | None) -> Iterator[Finding]:
    """Do what a page at `origin`, by default the service's own, does at the address `url`."""
    base = url.rstrip("/")
    if not with_port(base).startswith("http") or urlsplit(base).username is not None:
        yield wrong("--url should be an address such as https://app.example.org, without a user and password")
        return
    parts = urlsplit(base)
    own = f"{parts.scheme}://{parts.netloc}"
    site = Site(base, settings.chat_path, origin or own, cookie, settings.namespace)
    try:
        for step in (_config_js, _polling, _websocket):
            yield from step(settings, site)
    # TLS, names, time-outs and what is no HTTP: the text has the reason.
    except (OSError, HTTPException) as error:
        reason = str(error) or type(error).__name__
        yield wrong(f"{base} cannot be reached: {reason}: correct --url, or start the proxy")
    except (ValueError, KeyError, ProtocolError) as error:
        yield wrong(f"{base} does not answer as the service would ({type(error).__name__}): correct --url")


def _config_js(settings: Settings, site: Site) -> Iterator[Finding]:
    if settings.config_js is None:
        return
    answer = fetch(site.base + settings.config_js, site.headers)
    found = {key: re.search(rf'"{key}": ({_TEXT})', answer.text) for key in ("chatHost", "chatPath")}
    path = found["chatPath"]
    if answer.status != 200 or path is None:
        yield wrong("config.js: " + _why(answer, site, settings.config_js))
        return
    yield from _cookies(answer, site)
    if (told := json.loads(path[1])) != site.path:
        yield wrong(f"config.js: frontends are told {told}, and not {site.path}: correct REPO_NOTIFY_CHAT_PATH")
    host = found["chatHost"]
    told = with_port(json.loads(host[1])) if host else with_port(site.base)
    if told == with_port(site.base):
        yield ok(f"config.js: frontends are told {told}")
    elif told == with_port(settings.chat_host or ""):
        yield note(f"config.js: frontends are told {told} (REPO_NOTIFY_CHAT_HOST), and not {with_port(site.base)}")
    else:
        yield wrong(
            f"config.js: frontends are told {told}, and not {with_port(site.base)}: {_CURE_PROXY}; or set "
            "REPO_NOTIFY_CHAT_HOST"
        )


def _polling(_: Settings, site: Site) -> Iterator[Finding]:
    address = site.address("polling")
    answer = fetch(address, site.headers)
    if answer.status != 200 or not answer.text.startswith(_OPEN + "{"):
        yield wrong("polling: " + _why(answer, site, site.path))
        return
    yield from _cookies(answer, site)
    session = f"{address}&sid={json.loads(answer.text[1:])['sid']}"
    joined = fetch(session, site.headers, _CONNECT + _prefix(site))
    if joined.status != 200:
        yield wrong("polling: " + _why(joined, site, site.path))
        return
    fetch(session, site.headers, _CLOSE)
    allowed = answer.headers.get("Access-Control-Allow-Origin")
    if with_port(site.origin) != with_port(site.base) and allowed != site.origin:
        yield wrong(
            f"polling: browsers keep the answer from a page of {site.origin}: have the proxy pass the headers "
            "Access-Control-* on"
        )
        return
    yield ok(f"polling: a page of {site.origin} is answered")


def _websocket(_: Settings, site: Site) -> Iterator[Finding]:
    try:
        with WebSocket(site.address("websocket"), site.headers) as websocket:
            if not websocket.hear().startswith(_OPEN):
                yield wrong("WebSocket: what answers is no Engine.IO: have the proxy pass the path on to the service")
                return
            websocket.say(_CONNECT + _prefix(site))
            websocket.hear_one_of(_CONNECT)
            yield ok(f"WebSocket: a page of {site.origin} is answered")
            if site.cookie:
                yield _recognised(websocket, site)
    except Refused as refusal:
        yield wrong("WebSocket: " + _why(refusal.answer, site, site.path))
    except TimeoutError:
        yield wrong("WebSocket: nothing comes through it: have the proxy pass WebSockets on without buffering")


def _recognised(websocket: WebSocket, site: Site) -> Finding:
    """Ask for the user's own room, which opens to everybody who is somebody."""
    websocket.say(_EVENT + _prefix(site) + json.dumps(["join", {"notifications": True}]))
    if '"success"' in websocket.hear_one_of(f'{_EVENT}{_prefix(site)}["message"', f'{_EVENT}{_prefix(site)}["error"'):
        return ok("cookie: the service knows its user through the proxy")
    return wrong(
        "cookie: the service does not know its user: have the proxy pass the header Cookie on, give the service the "
        f"REST API's SECRET_KEY and SESSION_* keys, and list {site.origin} in REPO_NOTIFY_ALLOWED_ORIGINS by its name"
    )


def _prefix(site: Site) -> str:
    return "" if site.namespace == "/" else f"{site.namespace},"


def _cookies(answer: Answer, site: Site) -> Iterator[Finding]:
    for cookie in answer.headers.get_all("Set-Cookie", []):
        pair, *attributes = (part.strip() for part in cookie.split(";"))
        named = dict(part.lower().partition("=")[::2] for part in attributes)
        path = named.get("path") or "/"
        if not covers(path, site.path):
            yield wrong(
                f"cookies: browsers send {pair.partition('=')[0]} to {path} alone and not to {site.path}: correct its "
                "Path (SESSION_COOKIE_PATH; `proxy_cookie_path` in nginx)"
            )


def _why(answer: Answer, site: Site, path: str) -> str:
    """Return what a refusal means and what helps."""
    known = next((text for said, text in _REFUSALS.items() if said in answer.text), None)
    if known is None and (own := _message(answer)) is not None:
        return own
    text = known or _STATUSES.get(answer.status) or "what answers ({status}) is not the service: correct --url"
    return text.format(origin=site.origin, path=path, status=answer.status)


def _message(answer: Answer) -> str | None:
    """Return what the service itself says of a refusal, None where something else answers."""
    try:
        body = json.loads(answer.text)
    except ValueError:
        return None
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) else None
