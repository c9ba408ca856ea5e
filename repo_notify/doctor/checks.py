"""What an app depends on, looked at part by part: MongoDB, sessions, the queue, packages, the machine."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from flask import Flask
from pymongo.errors import OperationFailure, PyMongoError

from repo_notify.access.permissions import Permissions
from repo_notify.access.store import AUTHENTICATION_FAILED, UNAUTHORISED, Store, Unreachable, connect
from repo_notify.backend.exchange import SETTING, look_at
from repo_notify.bounded import TooSlow, in_a_thread, in_threads
from repo_notify.client import QueuePublisher
from repo_notify.delivery.broker import kind, require_libraries, require_redis
from repo_notify.delivery.history.mongodb import MongoHistory
from repo_notify.delivery.history.redis import OLDEST, Service
from repo_notify.delivery.history.store import StoreUnavailable
from repo_notify.errors import QueueUnavailable, SettingsError
from repo_notify.sessions.express import ExpressSessions
from repo_notify.sessions.flask import HandshakeSessions
from repo_notify.sessions.host_users import IdentityLoader, session_user
from repo_notify.setting_values import HISTORY_MONGODB
from repo_notify.settings import Settings
from repo_notify.web.readiness import FAILED_LOGIN, REFUSES_ACCOUNTS, REFUSES_TEAMSPACES, SESSIONS_SILENT
from repo_notify.wiring import load_legacy

from .cookies import session_cookie
from .findings import Finding, note, ok, wrong

# A process without connections has some tens of files open; each client is one more.
FEW_FILES, MANY_FILES, OWN_FILES = 1024, 10_000, 64

# The package that speaks with a queue of that kind, and the extra that installs it.
_QUEUE_PACKAGES = {"redis": ("redis", "redis"), "rediss": ("redis", "redis"), "amqp": ("amqp", "rabbitmq"),
                   "amqps": ("amqp", "rabbitmq")}


@dataclass(frozen=True)
class Subject:
    """The app that is looked at: its checked settings, its database, what tells users, and whether it can.

    `permissions` is None for the standalone service, where rights come from MongoDB and nobody else has a say.
    """

    app: Flask
    settings: Settings
    store: Store
    loader: IdentityLoader = session_user
    reads_sessions: bool = True
    permissions: Permissions | None = None
    express: ExpressSessions | None = None


def look(subject: Subject) -> Iterator[Finding]:
    """Yield what there is to be said of an app whose settings are right."""
    for check in CHECKS:
        yield from check(subject)


def _rights(subject: Subject) -> Iterator[Finding]:
    permissions = subject.permissions
    if permissions is not None and permissions.loader is not None:
        # Such an app may have no MongoDB.
        yield note(
            "rights come from the app's permission_loader and not from MongoDB, which is not asked; whether it answers "
            "is in GET /notify/explain"
        )
    else:
        yield from _mongodb(subject)
    if permissions is not None and permissions.checker is not None:
        yield note("the app's access_checker may refuse what these rights allow")


def _mongodb(subject: Subject) -> Iterator[Finding]:
    store, seconds = subject.store, subject.settings.permission_timeout
    collection = f"admin.{subject.settings.users_collection}"
    try:
        with store.within(seconds):
            account = store.any_account()
            store.account(account or "")
    except Unreachable as error:
        yield wrong(_why(error, REFUSES_ACCOUNTS))
        return
    yield ok("MongoDB answers")
    if account is None:
        yield wrong(f"{collection} holds no account: set REPO_NOTIFY_USERS_COLLECTION to the collection of accounts")
        return
    try:
        with store.within(seconds):
            store.try_reads(account)
            replicated = store.is_replicated()
    except Unreachable as error:
        yield wrong(_why(error, REFUSES_TEAMSPACES))
        return
    yield ok(f"permissions can be read: {collection} and the teamspaces")
    if not replicated:
        yield note(
            "MongoDB is no replica set: a right that ends is noticed by the sweep alone, within "
            "REPO_NOTIFY_RECHECK_SECONDS; start mongod with --replSet and run rs.initiate()"
        )


def _why(error: Unreachable, refused: str) -> str:
    if error.is_failed_login:
        return FAILED_LOGIN
    if error.is_refusal:
        return refused
    return f"MongoDB does not answer: start it, or correct REPO_NOTIFY_MONGO_URI ({_first_words(error)})"


def _first_words(error: Exception) -> str:
    """Return the driver's reason without its description of the whole topology."""
    return re.split(r", Timeout:| \(configured", str(error))[0][:200]


def _sessions(subject: Subject) -> Iterator[Finding]:
    app, sessions = subject.app, HandshakeSessions(subject.app)
    if not subject.reads_sessions:
        return
    if subject.express is not None:
        yield from _express(subject, subject.express)
        return
    yield from _cookie_path(subject)
    if subject.loader is not session_user or not sessions.need_no_request:
        yield note("users are told by the host's own identity loader or session interface, which --cookie asks")
    elif sessions.need_no_store:
        if app.secret_key:
            yield ok(f"sessions are in the cookie {session_cookie(app)}, signed with SECRET_KEY")
        else:
            yield wrong("SECRET_KEY is not set, so that nobody's session can be read: set it to the REST API's")
    else:
        yield _store_of_sessions(subject, sessions)


def _store_of_sessions(subject: Subject, sessions: HandshakeSessions) -> Finding:
    try:
        in_threads(in_a_thread)(sessions.probe, subject.settings.permission_timeout)
    # Each store raises its own kinds.
    except Exception as error:  # noqa: BLE001 - as above
        return wrong(
            f"{SESSIONS_SILENT} ({type(error).__name__}): start it, or correct SESSION_TYPE and its SESSION_* keys"
        )
    return ok("the session store answers")


def _express(subject: Subject, express: ExpressSessions) -> Iterator[Finding]:
    where = subject.settings.express_sessions
    try:
        is_empty = in_threads(in_a_thread)(express.is_empty, subject.settings.permission_timeout)
    except OperationFailure as error:
        yield wrong(f"MongoDB refuses to read the Express app's sessions: grant `find` on {where} ({error.code})")
    except (PyMongoError, TooSlow) as error:
        yield wrong(f"{SESSIONS_SILENT} ({type(error).__name__}): start MongoDB, or correct REPO_NOTIFY_MONGO_URI")
    else:
        yield ok(f"the Express app's sessions can be read: {where}, cookie {session_cookie(subject.app)}")
        if is_empty:
            yield note(f"{where} holds no session: log in, or correct REPO_NOTIFY_EXPRESS_SESSIONS")


def _cookie_path(subject: Subject) -> Iterator[Finding]:
    path, chat = subject.app.session_interface.get_cookie_path(subject.app), subject.settings.chat_path
    if not covers(path, chat):
        yield wrong(
            f"browsers send the session cookie to {path} alone and not to {chat}: set SESSION_COOKIE_PATH to / or "
            f"REPO_NOTIFY_CHAT_PATH to a path below {path}"
        )


def cookie_domain(app: Flask, url: str) -> Iterator[Finding]:
    """Yield what keeps browsers from sending the session cookie to `url` for its domain (RFC 6265 section 5.1.3)."""
    domain = str(app.config.get("SESSION_COOKIE_DOMAIN") or "").lstrip(".").lower()
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        # That it is no address is said where it is asked.
        return
    if domain and host and not f".{host}".endswith(f".{domain}"):
        yield wrong(
            f"browsers send the session cookie to {domain} alone and not to {host}: give the app that logs in a cookie "
            "domain that both share (cookie.domain, SESSION_COOKIE_DOMAIN)"
        )


def covers(cookie_path: str, path: str) -> bool:
    """Return whether a browser sends a cookie of that path to `path` (RFC 6265 section 5.1.4)."""
    return path == cookie_path or path.startswith(cookie_path.rstrip("/") + "/")


def _queue(subject: Subject) -> Iterator[Finding]:
    url = subject.settings.message_queue
    if url is None:
        meet = "processes meet by the history in Redis" if subject.settings.shares_history else "one process serves"
        yield ok(f"no message queue is set: {meet}")
        return
    package, extra = _QUEUE_PACKAGES[url.partition("://")[0]]
    if find_spec(package) is None:
        yield wrong(f"REPO_NOTIFY_MESSAGE_QUEUE needs the package {package}: pip install 'repo_notify[{extra}]'")
        return
    try:
        with QueuePublisher(url, channel=subject.settings.message_queue_channel) as publisher:
            publisher.publish()
    except QueueUnavailable as error:
        yield wrong(f"{error}: start the broker, or correct REPO_NOTIFY_MESSAGE_QUEUE")
    else:
        yield ok("the message queue answers")


def _history(subject: Subject) -> Iterator[Finding]:
    if subject.settings.shares_history:
        yield from _history_in_redis(subject.settings)
    elif subject.settings.history == HISTORY_MONGODB:
        yield from _history_in_mongodb(subject.settings)


def _history_in_mongodb(settings: Settings) -> Iterator[Finding]:
    name, seconds = settings.history_database, settings.permission_timeout
    client = connect(settings.mongo_uri, timeout=seconds)
    history = MongoHistory(client, name, seconds=settings.history_seconds)
    try:
        missing = history.probe(seconds)
    except StoreUnavailable as error:
        yield wrong(_why_no_history(error.__cause__, name))
        return
    finally:
        history.close()
    yield ok(f"the history in MongoDB can be read and written: {name}")
    if missing is None:
        yield note(f"no history has begun in {name} yet: the service makes it, with its indexes, when it first serves")
    elif missing:
        yield wrong(f"{name} lacks the indexes {', '.join(missing)}: start the service anew, which makes them")


def _why_no_history(cause: BaseException | None, name: str) -> str:
    code = cause.code if isinstance(cause, OperationFailure) else None
    if code == AUTHENTICATION_FAILED:
        return FAILED_LOGIN
    if code == UNAUTHORISED:
        return f"MongoDB does not let the service keep its history: grant its user `readWrite` on {name}"
    # The driver's text may hold the address.
    kind = type(cause).__name__
    return f"the history's MongoDB cannot be reached ({kind}): start it, or correct REPO_NOTIFY_MONGO_URI"


def _history_in_redis(settings: Settings) -> Iterator[Finding]:
    try:
        require_redis()
    except SettingsError as error:
        yield from map(wrong, error.problems)
        return
    service = Service(settings.history, settings.message_queue_channel, seconds=settings.history_seconds)
    try:
        version = service.version()
    except StoreUnavailable as error:
        # The text of its cause may hold the address.
        kind = type(error.__cause__).__name__
        yield wrong(f"the history's Redis cannot be reached ({kind}): start it, or correct REPO_NOTIFY_HISTORY")
    else:
        new_enough = version >= OLDEST
        text = ".".join(map(str, version))
        yield ok("the history in Redis answers") if new_enough else wrong(f"Redis {text} is too old: it takes 6.2")
    finally:
        service.close()


def _backend(subject: Subject) -> Iterator[Finding]:
    url, exchange = subject.settings.backend_queue, subject.settings.backend_exchange
    if url is None:
        return
    try:
        require_libraries(url, SETTING)
    except SettingsError as error:
        yield from map(wrong, error.problems)
        return
    yield _exchange(url, exchange)
    if subject.settings.legacy_permissions:
        yield note(
            "REPO_NOTIFY_LEGACY_PERMISSIONS is on: older data grants rights that a 3D Repo backend of 2023 and later "
            "does not grant"
        )


def _exchange(url: str, exchange: str) -> Finding:
    try:
        problem = look_at(url, exchange)
    # Each part of the client raises its own kinds.
    except Exception as error:  # noqa: BLE001 - as above
        return wrong(
            f"the backend's RabbitMQ cannot be reached ({kind(error)}): start it, or correct "
            "REPO_NOTIFY_BACKEND_QUEUE (`cn_queue.host`)"
        )
    if problem == "missing":
        return wrong(
            f"there is no exchange {exchange} at the backend's RabbitMQ: start the 3D Repo backend, which makes it, or "
            "set REPO_NOTIFY_BACKEND_EXCHANGE to its `cn_queue.event_exchange`"
        )
    if problem == "other":
        return wrong(
            f"the exchange {exchange} is no durable fanout, as a 3D Repo backend makes it: set "
            "REPO_NOTIFY_BACKEND_EXCHANGE to its `cn_queue.event_exchange`"
        )
    return ok(f"the backend's exchange {exchange} is there, durable and fanout")


def _legacy(subject: Subject) -> Iterator[Finding]:
    if not subject.settings.legacy_v4:
        return
    if load_legacy() is None:
        yield wrong("REPO_NOTIFY_LEGACY_V4 should be false, as the package legacy_v4 is not installed")
    else:
        yield ok("v4 frontends are served too")


def _publishing(subject: Subject) -> Iterator[Finding]:
    if subject.settings.api_key is None:
        yield note("publishing from outside and the operator's view are off: set REPO_NOTIFY_API_KEY to use them")


def _server(_: Subject) -> Iterator[Finding]:
    if find_spec("gunicorn") is None:
        yield note("gunicorn is not installed, which several processes need: pip install 'repo_notify[server]'")


def _files(_: Subject) -> Iterator[Finding]:
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= MANY_FILES:
        yield ok("the limit of open files is high enough for thousands of clients")
        return
    say = note if limit >= FEW_FILES else wrong
    yield say(
        f"at most {limit} files may be open, which is enough for {max(0, limit - OWN_FILES)} clients a process: raise "
        "it with `ulimit -n 65536`, or LimitNOFILE=65536 under systemd"
    )


CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    _rights, _sessions, _queue, _history, _backend, _legacy, _publishing, _server, _files
)
