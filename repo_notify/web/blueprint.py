"""The HTTP side: `config.js`, health, metrics, publishing (spec sections 1 and 5)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request

from repo_notify.metrics import Metrics
from repo_notify.settings import Settings

from .hooks import BLUEPRINT, Hooks
from .origins import public_address
from .proxies import host_is_forwarded, prefix_of
from .publishing import JsonAnswer, Publishing, problem, refusal_without
from .readiness import Readiness

logger = logging.getLogger(__name__)

# In the environ: the error at which a request to publish has failed before it came to Flask.
FAILED = "repo_notify.publishing_failed"
POSITION_HEADER = "X-Notify-Position"
_JS_ESCAPES = str.maketrans({character: f"\\u{ord(character):04X}" for character in "/<>\u2028\u2029"})

_FORWARDED = ("Host", "Proto", "Port", "Prefix")

Answer = tuple[Response, int]
# Path, endpoint, view, method.
Route = tuple["str | None", str, Callable[[], Any], str]

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
    publish: Callable[[], Answer],
    hooks: Hooks,
    readiness: Callable[[], Readiness],
    metrics: Metrics,
    more: Sequence[Route] = (),
    position: Callable[[], str] | None = None,
) -> Blueprint:
    """Return the blueprint of one app.

    `publish` is what `publish_view` returns; `readiness` tells how ready the process is; `more` has further routes;
    `position` tells how far the history goes, where there is one.
    """
    blueprint = Blueprint(BLUEPRINT, __name__)
    _exempt_from_csrf(app, blueprint, hooks)

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

    if position is not None and settings.position_header:
        _tell_position(hooks, position)

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


def publish_view(publishing: Publishing) -> Callable[[], Answer]:
    """Return the view that publishes what a request brings."""

    def publish() -> Answer:
        if (failed := request.environ.pop(FAILED, None)) is not None:
            raise failed
        found = publishing.answer(_authorization(), request.content_length, lambda size: request.stream.read(size))
        return _answer_of(found)

    return publish


def _answer_position(position: Callable[[], str] | None) -> Answer:
    if position is None:
        return error(404, "there is no history: REPO_NOTIFY_HISTORY is off, or the server cannot tell its clients")
    answer = jsonify(position=position())
    answer.headers["Cache-Control"] = "no-store"
    return answer, 200


def _tell_position(hooks: Hooks, position: Callable[[], str]) -> None:
    """Have each answer of the app say how far the history was when its request began (spec section 9)."""

    def note() -> None:
        g.repo_notify_position = position()

    def tell(response: Response) -> Response:
        if (told := g.get("repo_notify_position")) is not None:
            response.headers[POSITION_HEADER] = told
        return response

    # First of all: what the app reads for its answer is read after it.
    hooks.first(note)
    hooks.after(tell)


def _exempt_from_csrf(app: Flask, blueprint: Blueprint, hooks: Hooks) -> None:
    """Have Flask-WTF's CSRFProtect let the blueprint alone: publishers have the API key, and cookies do not count."""

    # Runs before the app's `before_request`, so that it does not matter which of the two was set up first.
    @blueprint.url_value_preprocessor
    @hooks.own
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
    return _answer_of(problem(status, message))


def without_key(key: str | None, what: str) -> Answer | None:
    """Return the answer to a request that does not bring the API key, None to one that does."""
    refusal = refusal_without(key, _authorization(), what)
    return _answer_of(refusal) if refusal is not None else None


def _authorization() -> str:
    return request.headers.get("Authorization", "")


def _answer_of(found: JsonAnswer) -> Answer:
    return Response(found.body, headers=found.headers, mimetype="application/json"), found.status
