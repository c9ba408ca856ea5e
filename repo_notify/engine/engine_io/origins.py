"""Which pages may ask, and with whose cookies (Fetch standard, "CORS protocol"; Fetch Metadata Request Headers).

A browser names the asking page by `Origin`, but not where a page embeds the answer (`<script>`, `<img>`, a frame):
there `Sec-Fetch-Site` and `Referer` tell. No page can forge any of the three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

Environ = dict[str, Any]
OriginCheck = Callable[[str, Environ], bool]
# Several origins, "*" for any; or what knows by origin and environ, for instance the service's own.
AllowedOrigins = Sequence[str] | OriginCheck

# In the environ of a connection: its handshake's cookies and the like name nobody.
NO_CREDENTIALS = "repo_notify.no_credentials"
# Credentials that a browser attaches by itself, whichever page asks.
_AMBIENT = ("HTTP_COOKIE", "HTTP_AUTHORIZATION")
_HIDDEN = "null"


class Page(Enum):
    """What is known of the page that asks."""

    KNOWN = "the service's own, or listed by name"
    NONE = "no page, or a browser that does not say"
    ANY = "let in by `*` or `null` alone"
    FOREIGN = "neither"


def asking_page(environ: Environ) -> str | None:
    """Return the origin of the page that asks, `null` where the browser hides it; None where there is none."""
    origin: str | None = environ.get("HTTP_ORIGIN")
    if origin is not None:
        return origin
    referer = environ.get("HTTP_REFERER")
    if referer:
        return _origin_of(referer)
    return None if environ.get("HTTP_SEC_FETCH_SITE", "none") == "none" else _HIDDEN


def _origin_of(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return _HIDDEN
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else _HIDDEN


class Origins:
    """Judges the pages that ask, and says so to their browsers.

    `any_origin` lets in every origin but `null`, as `*` among the allowed ones does, and `null_origin` that one; their
    cookies count only with `any_credentials`.
    """

    def __init__(
        self, allowed: AllowedOrigins, *, any_origin: bool, any_credentials: bool,
        null_origin: bool = False, credentials: bool = True,
    ) -> None:
        self._allowed = allowed
        self._any = any_origin or (isinstance(self._allowed, Sequence) and "*" in self._allowed)
        self._null = null_origin
        self._credentials = credentials
        self._any_credentials = any_credentials

    def judge(self, environ: Environ) -> Page:
        """Return what is known of the page that asks; a page that a browser hides is never known by its name."""
        if "HTTP_ORIGIN" not in environ and environ.get("HTTP_SEC_FETCH_SITE") == "same-origin":
            return Page.KNOWN
        page = asking_page(environ)
        if page is None:
            return Page.NONE
        if page == _HIDDEN:
            # A page that embeds the answer says less, and is let in less.
            return Page.ANY if self._null and environ.get("HTTP_ORIGIN") == _HIDDEN else Page.FOREIGN
        if self._names(page, environ):
            return Page.KNOWN
        return Page.ANY if self._any and "://" in page else Page.FOREIGN

    def _names(self, origin: str, environ: Environ) -> bool:
        allowed = self._allowed
        if isinstance(allowed, Sequence):
            return origin in allowed
        return bool(allowed(origin, environ))

    def believes(self, page: Page, *, readable: bool) -> bool:
        """Whether the credentials of a handshake count; `readable`: its answer is a script that any page can read."""
        if page is Page.NONE:
            return not readable
        return page is Page.KNOWN or (page is Page.ANY and self._any_credentials and not readable)

    def headers(self, page: Page, environ: Environ) -> list[tuple[str, str]]:
        """Return the CORS headers of an answer; a page that is refused is told nothing."""
        origin = environ.get("HTTP_ORIGIN")
        if origin is None or page is Page.FOREIGN:
            return []
        named = page is Page.KNOWN or self._any_credentials
        headers = [("Access-Control-Allow-Origin", origin if named else "*"), ("Vary", "Origin")]
        if self._credentials and named:
            headers.append(("Access-Control-Allow-Credentials", "true"))
        if environ["REQUEST_METHOD"] == "OPTIONS":
            headers.append(("Access-Control-Allow-Methods", "GET, POST, OPTIONS"))
            asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS")
            if asked:
                headers.append(("Access-Control-Allow-Headers", asked))
        return headers


def drop_credentials(environ: Environ) -> None:
    """Take out of a handshake what the browser attached by itself, and mark it: nothing else in it names a user."""
    for key in _AMBIENT:
        environ.pop(key, None)
    environ[NO_CREDENTIALS] = True
