"""The standalone service: a Flask app with the extension and nothing else, reading the REST API's sessions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask
from pymongo import MongoClient

from .errors import SettingsError
from .extension import NAME, RepoNotify
from .logs import configure
from .settings import SETTINGS, Settings, from_environment, read

ENVIRONMENT = "REPO_NOTIFY_ENV"
_NAMES = frozenset({"SESSION_COOKIE_DOMAIN", *(setting.name for setting in SETTINGS)})
# Of Flask's own keys those that the service needs in order to read another app's sessions.
FLASK_KEYS = (
    "SECRET_KEY",
    "SESSION_COOKIE_NAME",
    "SESSION_KEY_PREFIX",
    "SESSION_MONGODB_COLLECT",
    "SESSION_MONGODB_DB",
    "SESSION_REDIS",
    "SESSION_SERIALIZATION_FORMAT",
    "SESSION_TYPE",
    "SESSION_USE_SIGNER",
)


def create_app(
    config: Mapping[str, Any] | None = None, *, folder: Path | None = None, backend: Mapping[str, Any] | None = None
) -> Flask:
    """Return the standalone service's app; its configuration is as `configured` has it.

    Raises `SettingsError` naming every wrong key.
    """
    app = configured(config, folder=folder, backend=backend)
    settings = read(app.config)
    configure(settings.log_level, settings.log_format)
    _require_secret(app, settings)
    RepoNotify(app)
    _use_sessions(app, app.extensions[NAME].store.client)
    return app


def configured(
    config: Mapping[str, Any] | None = None, *, folder: Path | None = None, backend: Mapping[str, Any] | None = None
) -> Flask:
    """Return the standalone service's app with its configuration, and nothing else yet.

    Settings come from a 3D Repo backend's configuration (`backend`), from `default.py` and `<REPO_NOTIFY_ENV>.py` in
    the folder, if one is given, then from the environment, then from `config`; later ones win. Raises `SettingsError`
    where there is no such file.
    """
    app = Flask("repo_notify.service", static_folder=None)
    app.config["SESSION_COOKIE_NAME"] = "connect.sid"
    # What the service has no setting for is the backend's own affair.
    app.config.update({name: value for name, value in (backend or {}).items() if name in _NAMES})
    if folder is not None:
        for path in (folder / "default.py", _config_file(folder)):
            app.config.from_pyfile(str(path))
    elif os.environ.get(ENVIRONMENT):
        raise SettingsError([f"{ENVIRONMENT} chooses a file of a configuration folder: pass --config, or unset it"])
    app.config.update(from_environment(os.environ))
    app.config.update({key: os.environ[key] for key in FLASK_KEYS if key in os.environ})
    app.config.update(config or {})
    return app


def address_of(environ: Mapping[str, str]) -> tuple[str, int]:
    """Return the host and port in HOST and PORT, by default 127.0.0.1 and 3000; raises `SettingsError`."""
    port = environ.get("PORT") or "3000"
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise SettingsError([f"PORT should be a whole number from 0 to 65535, not {port[:80]!r}"])
    return environ.get("HOST") or "127.0.0.1", int(port)


def _config_file(folder: Path) -> Path:
    name = os.environ.get(ENVIRONMENT, "development")
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("default", "__init__"))
    if name not in names:
        raise SettingsError([f"{ENVIRONMENT} should be one of {', '.join(names)}, not {name!r}"])
    return folder / f"{name}.py"


def read_sessions(app: Flask, client: MongoClient[dict[str, Any]]) -> None:
    """Have a configured app read sessions, as the service does; raises `SettingsError`."""
    _require_secret(app, read(app.config))
    _use_sessions(app, client)


def _require_secret(app: Flask, settings: Settings) -> None:
    if settings.express_secret is None and not app.config.get("SECRET_KEY") and app.config.get("SESSION_TYPE") is None:
        raise SettingsError(
            [
                "SECRET_KEY should be the REST API's SECRET_KEY, so that its session cookies can be read; "
                "or set SESSION_TYPE to its kind of server-side sessions, such as mongodb. Behind an Express app set "
                "REPO_NOTIFY_EXPRESS_SECRET"
            ]
        )


def _use_sessions(app: Flask, client: MongoClient[dict[str, Any]]) -> None:
    """Read server-side sessions where SESSION_TYPE says so; in MongoDB through `client`."""
    if app.config.get("SESSION_TYPE") is None:
        return
    try:
        from flask_session import Session
    except ModuleNotFoundError as error:
        raise SettingsError(["SESSION_TYPE needs the package Flask-Session: install repo_notify[sessions]"]) from error
    if app.config["SESSION_TYPE"] == "mongodb":
        app.config.setdefault("SESSION_MONGODB", client)
    _connect_redis(app)
    try:
        Session(app)
    # What Flask-Session says of a kind that it does not know, or whose package is missing.
    except (ValueError, ImportError, RuntimeError) as error:
        raise SettingsError(
            [f"SESSION_TYPE should be a kind that Flask-Session knows, such as mongodb: {error}"]
        ) from error
    # Some kinds ask their store at once; each raises its own kinds of error.
    except Exception as error:
        raise SettingsError(
            [
                f"the session store of SESSION_TYPE does not answer ({type(error).__name__}): start it, or correct "
                "SESSION_TYPE and its SESSION_* keys"
            ]
        ) from error


def _connect_redis(app: Flask) -> None:
    """Make SESSION_REDIS a client where it is an address, as environments and files have it."""
    address = app.config.get("SESSION_REDIS")
    if app.config["SESSION_TYPE"] != "redis" or not isinstance(address, str):
        return
    try:
        from redis import Redis
    except ModuleNotFoundError as error:
        raise SettingsError(["SESSION_TYPE redis needs the package redis: install repo_notify[redis]"]) from error
    timeout = read(app.config).permission_timeout
    try:
        app.config["SESSION_REDIS"] = Redis.from_url(address, socket_timeout=timeout, socket_connect_timeout=timeout)
    except ValueError:
        # The address may hold a password: it is not repeated.
        raise SettingsError(["SESSION_REDIS should be an address such as redis://host:6379/0"]) from None
