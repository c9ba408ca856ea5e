"""What the demo's REST API refuses, and the JSON that says so: `{code, message}`, `fields` where they are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from flask import Flask, Response, jsonify
from pymongo.errors import ConnectionFailure
from werkzeug.exceptions import HTTPException, InternalServerError


class ApiError(Exception):
    """A refusal; each leaf has its HTTP status, its code and its default sentence."""

    status: ClassVar[int]
    code: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)

    def body(self) -> dict[str, object]:
        """Return the answer's JSON object."""
        return {"code": self.code, "message": str(self)}


class InvalidFields(ApiError):
    """The body is wrong; `fields` maps each wrong field to what it should be (`body` is the body as a whole)."""

    status, code, message = 400, "INVALID_ARGUMENTS", "The request is wrong"

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in fields.items()))
        self.fields = dict(fields)

    def body(self) -> dict[str, object]:
        """Return the answer's JSON object, with `fields`."""
        return {**super().body(), "fields": self.fields}


class WrongCredentials(ApiError):
    """The user name and the password do not belong together; which of them is wrong is not said."""

    status, code, message = 400, "INCORRECT_USERNAME_OR_PASSWORD", "The user name or the password is wrong"


class NotLoggedIn(ApiError):
    """The request needs a session that is logged in."""

    status, code, message = 401, "NOT_LOGGED_IN", "You are not logged in"


class Forbidden(ApiError):
    """The user may read this, but not change it so."""

    status, code, message = 403, "NOT_AUTHORISED", "You may read this but not change it"


class NotFound(ApiError):
    """There is no such thing, or the user may not know of it."""

    status, code, message = 404, "RESOURCE_NOT_FOUND", "There is no such resource"


def register_error_handlers(app: Flask) -> None:
    """Make every error of `app` a JSON answer, those of Flask and the unexpected ones too; no detail of ours leaks."""

    @app.errorhandler(ApiError)
    def refused(error: ApiError) -> tuple[Response, int]:
        return jsonify(error.body()), error.status

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        cause = error.original_exception if isinstance(error, InternalServerError) else None
        status, name, message = error.code or 500, error.name, error.description
        if isinstance(cause, ConnectionFailure):
            status, name, message = 503, "Service Unavailable", "The database does not answer right now"
        response = jsonify(code=name.upper().replace(" ", "_"), message=message)
        response.status_code = status
        # Allow, Retry-After and the like, but not what describes the page that this body replaces.
        kept = [(name, value) for name, value in error.get_headers() if not name.lower().startswith("content-")]
        response.headers.extend(kept)
        return response
