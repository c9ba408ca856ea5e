"""The standalone service: a Flask app with the extension and nothing else, reading the REST API's sessions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from .errors import SettingsError
from .extension import NAME, RepoNotify
from .logs import configure
from .settings import from_environment, read

ENVIRONMENT = "REPO_NOTIFY_ENV"
# Of Flask's own keys those that the service needs in order to read another app's sessions.
FLASK_KEYS = (
    "SECRET_KEY",
    "SESSION_COOKIE_NAME",
    "SESSION_KEY_PREFIX",
    "SESSION_MONGODB_COLLECT",
    "SESSION_MONGODB_DB",
    "SESSION_SERIALIZATION_FORMAT",
    "SESSION_TYPE",
    "SESSION_USE_SIGNER",
)


def create_app(config: Mapping[str, Any] | None = None, *, folder: Path | None = None) -> Flask:
    """Return the standalone service's app.

    Settings come from `default.py` and `<REPO_NOTIFY_ENV>.py` in the folder, if one is given, then from the
    environment, then from `config`; later ones win. Raises `SettingsError` naming every wrong key.
    """
    app = Flask("repo_notify.service", static_folder=None)
    app.config["SESSION_COOKIE_NAME"] = "connect.sid"
    if folder is not None:
        for path in (folder / "default.py", _config_file(folder)):
            app.config.from_pyfile(str(path))
    app.config.update(from_environment(os.environ))
    app.config.update({key: os.environ[key] for key in FLASK_KEYS if key in os.environ})
    app.config.update(config or {})
    settings = read(app.config)
    configure(settings.log_level, settings.log_format)
    _require_secret(app)
    RepoNotify(app)
    _use_sessions(app)
    return app


def _config_file(folder: Path) -> Path:
    name = os.environ.get(ENVIRONMENT, "development")
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("default", "__init__"))
    if name not in names:
        raise SettingsError([f"{ENVIRONMENT} should be one of {', '.join(names)}, not {name!r}"])
    return folder / f"{name}.py"


def _require_secret(app: Flask) -> None:
    if not app.config.get("SECRET_KEY") and app.config.get("SESSION_TYPE") is None:
        raise SettingsError(
            [
                "SECRET_KEY should be the REST API's SECRET_KEY, so that its session cookies can be read; "
                "or set SESSION_TYPE to its kind of server-side sessions, such as mongodb"
            ]
        )


def _use_sessions(app: Flask) -> None:
    """Read server-side sessions where SESSION_TYPE says so; in MongoDB through the service's own client."""
    if app.config.get("SESSION_TYPE") is None:
        return
    try:
        from flask_session import Session
    except ModuleNotFoundError as error:
        raise SettingsError(["SESSION_TYPE needs the package Flask-Session: install repo_notify[sessions]"]) from error
    if app.config["SESSION_TYPE"] == "mongodb":
        app.config.setdefault("SESSION_MONGODB", app.extensions[NAME].store.client)
    try:
        Session(app)
    # What Flask-Session says of a kind that it does not know, or whose package is missing.
    except (ValueError, ImportError, RuntimeError) as error:
        raise SettingsError(
            [f"SESSION_TYPE should be a kind that Flask-Session knows, such as mongodb: {error}"]
        ) from error
