"""The HTTP side: `config.js`, health, metrics, publishing (spec sections 1 and 5)."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request

from repo_notify.errors import InvalidEvent
from repo_notify.events import Event
from repo_notify.logs import Rarely
from repo_notify.metrics import Metrics
from repo_notify.protocol.validation import from_json
from repo_notify.settings import Settings

from .origins import public_address
from .proxies import host_is_forwarded, prefix_of
from .readiness import Readiness

logger = logging.getLogger(__name__)

MAX_EVENTS = 1_000
POSITION_HEADER = "X-Notify-Position"
_JS_ESCAPES = str.maketrans({character: f"\\u{ord(character):04X}" for character in "/<>\u2028\u2029"})

_FORWARDED = ("Host", "Proto", "Port", "Prefix")

Answer = tuple[Response, int]
# Path, endpoint, view, method.
Route = tuple["str | None", str, Callable[[], Any], str]

NOT_STORED = (
    "the events were delivered, but the history's store did not take them in time, so that clients which are away may "
    "miss them after a restart; sent again, they are delivered again"
)

# What an operator should hear of, by status; whoever asks has been told more.
_REFUSED = {
    400: "a request to publish was refused with 400: its events are not valid; the answer names the fields",
    401: "a request to publish was refused with 401: its key is not the REPO_NOTIFY_API_KEY of this service",
    404: "a request to publish was refused with 404: publishing over HTTP is off, as REPO_NOTIFY_API_KEY is not set",
    413: "a request to publish was refused with 413: larger than REPO_NOTIFY_MAX_EVENT_BYTES, or too many events",
    503: "a request to publish was answered with 503: the history's store did not take its events in time",
}


# Where the browser loaded the script from: for a `Host` that anybody may have written, as a cache would keep that.
_ASKED = (
    "(function () { var scripts = document.getElementsByTagName('script'), link = document.createElement('a'); "
    "link.href = (document.currentScript || scripts[scripts.length - 1]).src; "
    "return link.protocol + '\\u002F\\u002F' + link.host; })()"
)


def config_js(host: str | None, path: str) -> str:
    """Return the script that sets the global `ClientConfig`, safe inside a page; without a host it asks the browser."""
    found, at = (_quoted(text) if text is not None else _ASKED for text in (host, path))
    return f'var ClientConfig = {{"chatHost": {found}, "chatPath": {at}}};\n'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_JS_ESCAPES)


def make_blueprint(
    app: Flask,
    settings: Settings,
    *,
    send: Callable[[Sequence[Event]], bool],
    readiness: Callable[[], Readiness],
    metrics: Metrics,
    more: Sequence[Route] = (),
    position: Callable[[], str] | None = None,
) -> Blueprint:
    """Return the blueprint of one app.

    `send` publishes checked events and returns whether they are in the history's store; `readiness` tells how ready the
    process is; `more` has further routes.
    `position` tells how far the history goes, where there is one.
    """
    blueprint = Blueprint("repo_notify", __name__)
    refused = _Refused()
    _exempt_from_csrf(app, blueprint)

    def answer_config_js() -> Response:
        return _answer_config_js(app, settings)

    def healthz() -> Answer:
        return jsonify(status="ok"), 200

    def readyz() -> Answer:
        found = readiness()
        reasons = {"reasons": found.reasons} if found.reasons else {}
        return jsonify(status=found.status, **reasons), 503 if found.status == "unavailable" else 200

    def answer_metrics() -> Response:
        shared = bool(request.environ.get("wsgi.multiprocess"))
        return Response(metrics.text(shared=shared), content_type="text/plain; version=0.0.4; charset=utf-8")

    def publish() -> Answer:
        answer = _publish(settings.api_key, settings.max_event_bytes, send)
        metrics.publish_request(str(answer[1]))
        refused.log(answer[1])
        return answer

    if position is not None and settings.position_header:
        _tell_position(app, position)

    routes: tuple[Route, ...] = (
        (settings.config_js, "config_js", answer_config_js, "GET"),
        (f"{settings.http_prefix}/healthz", "healthz", healthz, "GET"),
        (f"{settings.http_prefix}/readyz", "readyz", readyz, "GET"),
        (f"{settings.http_prefix}/metrics", "metrics", answer_metrics, "GET"),
        (f"{settings.http_prefix}/events", "events", publish, "POST"),
        (f"{settings.http_prefix}/position", "position", lambda: _answer_position(position), "GET"),
        *more,
    )
    taken = {str(rule) for rule in app.url_map.iter_rules()}
    for path, endpoint, view, method in routes:
        if path is None:
            continue
        if path in taken:
            logger.warning("the app has a route %s of its own; repo_notify leaves it alone", path)
            continue
        blueprint.add_url_rule(path, endpoint, view, methods=[method])
    return blueprint


def _answer_position(position: Callable[[], str] | None) -> Answer:
    if position is None:
        return error(404, "there is no history: REPO_NOTIFY_HISTORY is off, or the server cannot tell its clients")
    answer = jsonify(position=position())
    answer.headers["Cache-Control"] = "no-store"
    return answer, 200


def _tell_position(app: Flask, position: Callable[[], str]) -> None:
    """Have each answer of the app say how far the history was when its request began (spec section 9)."""

    def note() -> None:
        g.repo_notify_position = position()

    # First of all: what the app reads for its answer is read after it.
    app.before_request_funcs.setdefault(None, []).insert(0, note)

    @app.after_request
    def tell(response: Response) -> Response:
        if (told := g.get("repo_notify_position")) is not None:
            response.headers[POSITION_HEADER] = told
        return response


class _Refused:
    """Logs refused requests to publish, each kind once a minute at most."""

    def __init__(self) -> None:
        self._rarely = Rarely()

    def log(self, status: int) -> None:
        if status in _REFUSED and self._rarely(str(status)):
            logger.warning(_REFUSED[status])


def _exempt_from_csrf(app: Flask, blueprint: Blueprint) -> None:
    """Have Flask-WTF's CSRFProtect let the blueprint alone: publishers have the API key, and cookies do not count."""

    # Runs before the app's `before_request`, so that it does not matter which of the two was set up first.
    @blueprint.url_value_preprocessor
    def exempt(*_: object) -> None:
        csrf = app.extensions.get("csrf")
        if csrf is not None and hasattr(csrf, "exempt"):
            csrf.exempt(blueprint)


def _answer_config_js(app: Flask, settings: Settings) -> Response:
    environ, proxies = request.environ, settings.trusted_proxies
    forwarded = host_is_forwarded(app, environ, proxies)
    host = settings.chat_host or public_address(environ, proxies, app.config, forwarded=forwarded)
    script = config_js(host, prefix_of(environ, proxies) + settings.chat_path)
    answer = Response(script, content_type="application/javascript; charset=utf-8")
    configured = settings.chat_host and "HTTP_X_FORWARDED_PREFIX" not in environ
    answer.headers["Cache-Control"] = "no-cache" if configured else "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    if not configured:
        answer.headers["Vary"] = ", ".join(("Host", *(f"X-Forwarded-{name}" for name in _FORWARDED)))
    return answer


def error(status: int, message: str) -> Answer:
    """Return an answer that says what is wrong."""
    return jsonify(errors=[{"message": message}]), status


def without_key(key: str | None, what: str) -> Answer | None:
    """Return the answer to a request that does not bring the API key, None to one that does."""
    if key is None:
        return error(404, f"{what} is off: REPO_NOTIFY_API_KEY is not set")
    if _authorised(key):
        return None
    answer, status = error(401, "Authorization should be `Bearer ` and the REPO_NOTIFY_API_KEY")
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer, status


def _publish(key: str | None, limit: int, send: Callable[[Sequence[Event]], bool]) -> Answer:
    if (refusal := without_key(key, "publishing over HTTP")) is not None:
        return refusal
    if (body := _body(limit)) is None:
        return error(413, f"the body should be of at most {limit} bytes (REPO_NOTIFY_MAX_EVENT_BYTES)")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return jsonify(errors=[{"index": 0, "fields": {"": "a JSON document: an event or an array of events"}}]), 400
    documents = document if isinstance(document, list) else [document]
    if len(documents) > MAX_EVENTS:
        return error(413, f"an array should hold at most {MAX_EVENTS} events")
    return _publish_all(documents, send)


def _publish_all(documents: list[Any], send: Callable[[Sequence[Event]], bool]) -> Answer:
    found: list[Event] = []
    errors: list[dict[str, Any]] = []
    for index, document in enumerate(documents):
        try:
            found.append(from_json(document))
        except InvalidEvent as invalid:
            errors.append({"index": index, "fields": invalid.fields})
    if errors:
        return jsonify(errors=errors), 400
    if not send(found):
        return error(503, NOT_STORED)
    return jsonify(accepted=len(found)), 202


def _authorised(key: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key.encode())


def _body(limit: int) -> bytes | None:
    """Return the request's body, or None when it is over the limit, which is seen before it is all read."""
    if request.content_length is not None and request.content_length > limit:
        return None
    body = request.stream.read(limit + 1)
    return body if len(body) <= limit else None
