"""What `repo-notify demo` runs: the sample REST API with the extension in it, its own database and the console."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pymongo.errors import PyMongoError

from repo_notify.access.store import connect
from repo_notify.errors import NotifyError
from repo_notify.settings import from_environment
from repo_notify.testing.embedded import EmbeddedMongo

from .seed import PASSWORD, USERS
from .seed import seed as write_sample_data

EMBEDDED_USERS = "users"
DATABASE_SECONDS = 5.0
# What a server listens on is not always what a browser can open.
EVERY_ADDRESS = re.compile(r"//(0\.0\.0\.0|\[::\]|):")


class DatabaseError(NotifyError):
    """The database cannot be reached or refuses; the text is the driver's reason."""


class AlreadyRunning(NotifyError):
    """Another demo runs on the same data; the text says where."""


def run(*, host: str, port: int, data_dir: Path, seed: bool, open_browser: bool) -> None:
    """Serve the demo until SIGTERM or Ctrl-C.

    `data_dir` keeps the embedded database and the secret key; with REPO_NOTIFY_MONGO_URI set that database is used
    instead. Every other REPO_NOTIFY_* of the environment is a setting of the app.
    Raises AlreadyRunning, EmbeddedMongoError, DatabaseError, SettingsError, and OSError when the port is taken.
    """
    # Here, because these need Flask-Session, which only the `demo` extra brings; the embedded database says so better.
    with _database(data_dir) as (mongo_uri, users_collection, own, note):
        from repo_notify.serving import serve

        from .api import create_demo_app

        secret_key = _secret_key(data_dir)
        try:
            if seed:
                with connect(mongo_uri, timeout=DATABASE_SECONDS) as client:
                    write_sample_data(client, users_collection=users_collection)
            app = create_demo_app(
                mongo_uri=mongo_uri,
                users_collection=users_collection,
                # Another's database may hold a teamspace of this name that is none of the demo's.
                resettable=own and seed,
                SECRET_KEY=secret_key,
                **_settings(),
            )
        except PyMongoError as error:
            raise DatabaseError(f"The database does not do what the demo needs: {error}") from error

        def announce(url: str) -> None:
            note(url)
            _announce(url, users=seed, open_browser=open_browser)

        serve(app, host=host, port=port, on_ready=announce)


def _settings() -> dict[str, str]:
    """Return the REPO_NOTIFY_* settings of the environment, but for those of the database, which the demo chooses."""
    chosen = {"REPO_NOTIFY_MONGO_URI", "REPO_NOTIFY_USERS_COLLECTION"}
    return {name: value for name, value in from_environment(os.environ).items() if name not in chosen}


class _Database(NamedTuple):
    """Where the data is, whether it is the demo's own, and what takes the demo's address for a second one to tell."""

    uri: str
    users_collection: str
    own: bool
    note: Callable[[str], object]


@contextmanager
def _database(data_dir: Path) -> Iterator[_Database]:
    users_collection = os.environ.get("REPO_NOTIFY_USERS_COLLECTION")
    given = os.environ.get("REPO_NOTIFY_MONGO_URI")
    if given:
        yield _Database(given, users_collection or "system.users", own=False, note=lambda url: None)
        return
    with _alone(data_dir) as note, EmbeddedMongo(data_dir / "database") as embedded:
        yield _Database(embedded.uri, users_collection or EMBEDDED_USERS, own=True, note=note)


@contextmanager
def _alone(data_dir: Path) -> Iterator[Callable[[str], object]]:
    """Keep other demos off the embedded database; yields what notes the address of this one, to be told to them."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "running").open("a+") as file:
        try:
            # The system lets go of it however this process ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            where = file.read() or "an address that it has not told yet"
            raise AlreadyRunning(
                f"Another demo runs on the data in {data_dir}, at {where}: use that one, end it, or give this one data "
                "of its own with --data-dir"
            ) from None
        file.truncate(0)

        def note(url: str) -> None:
            file.write(url)
            file.flush()

        yield note


def _secret_key(data_dir: Path) -> str:
    """Return the key kept in `data_dir`, so that sessions outlive a restart; made when missing, for the owner alone."""
    path, fresh = data_dir / "secret_key", data_dir / "secret_key.new"
    if path.exists():
        return path.read_text()
    data_dir.mkdir(parents=True, exist_ok=True)
    key = secrets.token_hex(32)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key)
    # At once, so that a start that is cut off leaves no empty key behind.
    fresh.replace(path)
    return key


def _announce(url: str, *, users: bool, open_browser: bool) -> None:
    address = EVERY_ADDRESS.sub("//localhost:", url) + "/"
    if users:
        width = max(map(len, USERS))
        table = "".join(f"  {name:<{width}}  {role}\n" for name, role in USERS.items())
        sys.stdout.write(f"Sample users, all with the password `{PASSWORD}`:\n{table}")
    sys.stdout.write(f"The demo runs at {address} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    if open_browser:
        webbrowser.open(address)
