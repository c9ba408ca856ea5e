"""Every key of the settings table: its default, what it takes, what it refuses and how it says so."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest

from repo_notify.contract.markdown import settings_markdown
from repo_notify.errors import SettingsError
from repo_notify.settings import SETTINGS, Settings, from_environment, read
from tests.support.command import run

# key -> default; good values as (given, read); bad values; what the message says it should be
NUMBER_BAD: tuple[Any, ...] = ("soon", "", None, [], True, "nan", "inf", float("nan"), -1)
WHOLE_BAD: tuple[Any, ...] = ("soon", "", None, {}, False, 1.5, "1.5", "nan", "inf", -1)
BOOLEAN_BAD: tuple[Any, ...] = ("maybe", "", None, 2, 0, [])
PATH_BAD: tuple[Any, ...] = ("", "chat", "/", "/chat/", "/chat?x", "/ch at", "/a#b", None, 3, "http://x/chat")
NAMESPACE_BAD: tuple[Any, ...] = ("", "chat", "/a,b", "/a?b", "/a b", None, 1)
TEXT_BAD: tuple[Any, ...] = ("", None, 3, [])
ORIGINS_BAD: tuple[Any, ...] = (
    "app.example.org",
    "https://a/b",
    "ftp://a",
    ["https://a?b"],
    [3],
    3,
    None,
    "https://[a",
    "http://a:0",
)
QUEUE_BAD = (
    "redis://:pw@/0",
    "redis://r:0",
    "redis://r:port",
    "amqp://r:65536//",
    "amqp://a..b",
    "amqp://[",
    "amqp://u:p#w@q//",
    "amqp://a b//",
    "rediss://r?ssl_cert_reqs=perhaps",
    "redis://a;b",
)


def whole(default: int) -> tuple[Any, ...]:
    return default, ((1, 1), ("7", 7), (8.0, 8)), (*WHOLE_BAD, 0), "a whole number of at least 1"


def seconds(default: float, *, above: bool) -> tuple[Any, ...]:
    good = ((0.5, 0.5), ("2.5", 2.5), (3, 3.0)) + (() if above else ((0, 0.0),))
    says = "a number above 0" if above else "a number of at least 0"
    return default, good, (*NUMBER_BAD, *((0, "0") if above else ())), says


TABLE: dict[str, tuple[Any, ...]] = {
    "MONGO_URI": (
        "mongodb://127.0.0.1:27017",
        (("mongodb://u:p@a:1,b:2/x", "mongodb://u:p@a:1,b:2/x"), ("mongodb+srv://db.x.org", "mongodb+srv://db.x.org")),
        ("", None, 3, "http://db", "db:27017", "mongodb://", "mongodb://[", "mongodb://a:0/?x", "mongodb+srv://"),
        "mongodb://",
    ),
    "USERS_COLLECTION": ("system.users", (("users", "users"),), TEXT_BAD, "a non-empty string"),
    "CHAT_PATH": ("/chat", (("/a/b", "/a/b"), ("/c", "/c")), PATH_BAD, "a path that starts with /"),
    "CHAT_HOST": (
        None,
        (("https://chat:443", "https://chat:443"), ("wss://chat", "wss://chat"), ("", None), (None, None)),
        ("chat.example.org", 3, "ftp://chat", "https://", "https://[::", "https://chat:99999"),
        "https://",
    ),
    "CONFIG_JS": ("/config/config.js", (("/c.js", "/c.js"), ("", None), (None, None)), PATH_BAD[1:7], "a path"),
    "HTTP_PREFIX": ("/notify", (("/n", "/n"),), PATH_BAD, "a path that starts with /"),
    "NAMESPACE": ("/", (("/chat", "/chat"), ("/", "/")), NAMESPACE_BAD, "a Socket.IO namespace"),
    "LEGACY_V4": (
        True,
        (("no", False), ("OFF", False), ("0", False), ("True", True), (" yes ", True), (False, False)),
        BOOLEAN_BAD,
        "true or false",
    ),
    "LEGACY_V4_NAMESPACE": ("/legacy_v4", (("/old", "/old"),), NAMESPACE_BAD, "a Socket.IO namespace"),
    "LEGACY_V4_NAMES": (
        "first",
        (("second", "second"), ("both", "both")),
        ("", None, 1, "third", []),
        "one of first, second, both",
    ),
    "CHANGE_STREAMS": (True, (("off", False), (True, True)), BOOLEAN_BAD, "true or false"),
    "LEGACY_PERMISSIONS": (True, (("no", False), (True, True)), BOOLEAN_BAD, "true or false"),
    "EXPRESS_SECRET": (
        None,
        (("a", ("a",)), ("a, b", ("a", "b")), (["a,b"], ("a,b",)), ("", None), (None, None)),
        (3, [], [""], ["a", 3], ",", "a,,b"),
        "a secret, or several separated by commas",
    ),
    "EXPRESS_SESSIONS": (
        "admin.sessions",
        (("sessions.of.express", "sessions.of.express"),),
        ("", None, 3, "sessions", "admin.", ".sessions", "a b.c", "a.$b", "a..b", "x" * 64 + ".a"),
        "a database and a collection in it",
    ),
    "POLLING": (True, (("off", False), (True, True)), BOOLEAN_BAD, "true or false"),
    "JSONP": (False, (("on", True), (False, False)), BOOLEAN_BAD, "true or false"),
    "ALLOWED_ORIGINS": (
        (),
        (
            ("https://A.example.org, http://b:81", ("https://a.example.org", "http://b:81")),
            (["https://a"], ("https://a",)),
            ("*", ("*",)),
            ("*, null", ("*", "null")),
            ("", ()),
        ),
        ORIGINS_BAD,
        "origins such as https://app.example.org",
    ),
    "ALLOW_ANY_ORIGIN_CREDENTIALS": (False, (("yes", True), ("0", False)), BOOLEAN_BAD, "true or false"),
    "TRUSTED_PROXIES": (0, ((0, 0), ("2", 2)), WHOLE_BAD, "a whole number of at least 0"),
    "API_KEY": (None, (("secret", "secret"), ("", None), (None, None)), (3, ["x"]), "a non-empty string"),
    "MAX_EVENT_BYTES": whole(1_048_576),
    "BACKEND_QUEUE": (
        None,
        (
            ("amqp://u:p@q:5673/v", "amqp://u:p@q:5673/v"),
            ("amqps://q//?ssl_cert_reqs=none", "amqps://q//?ssl_cert_reqs=none"),
            ("", None),
            (None, None),
        ),
        ("q:5672", 3, "redis://r:6379/0", "amqp://q//;redis://r", *(bad for bad in QUEUE_BAD if bad[0] == "a")),
        "amqp",
    ),
    "BACKEND_EXCHANGE": (
        "eventExchange",
        (("events", "events"), ("é" * 127, "é" * 127)),
        (*TEXT_BAD, "amq.fanout", "x" * 256, "é" * 128),
        "the name of an exchange",
    ),
    "MESSAGE_QUEUE": (
        None,
        (
            ("redis://r:6379/0", "redis://r:6379/0"),
            ("amqp://q//", "amqp://q//"),
            ("rediss://r?ssl_cert_reqs=none", "rediss://r?ssl_cert_reqs=none"),
            ("redis://a;redis://b:1/2", "redis://a;redis://b:1/2"),
            ("amqps://u:p@[::1]:1/%2Fv", "amqps://u:p@[::1]:1/%2Fv"),
            ("", None),
        ),
        ("kafka://q", "redis", 3, "redis://", "redis://r/x", "redis://r/1/2", "redis://r?x=1", *QUEUE_BAD),
        "redis://",
    ),
    "MESSAGE_QUEUE_CHANNEL": ("repo_notify", (("c", "c"),), TEXT_BAD, "a non-empty string"),
    "PERMISSION_CACHE_SECONDS": seconds(3.0, above=False),
    "PERMISSION_CACHE_SIZE": whole(10_000),
    "PERMISSION_TIMEOUT": seconds(4.5, above=True),
    "RECHECK_SECONDS": seconds(30.0, above=False),
    "JOIN_BURST": whole(2_000),
    "JOIN_RATE": seconds(500.0, above=True),
    "PING_INTERVAL": seconds(25.0, above=True),
    "PING_TIMEOUT": seconds(20.0, above=True),
    "CONNECT_TIMEOUT": seconds(45.0, above=True),
    "MAX_MESSAGE_BYTES": whole(262_144),
    "HISTORY": (
        "memory",
        (("off", "off"), ("MEMORY", "memory"), ("mongodb", "mongodb"), ("rediss://r:1/2", "rediss://r:1/2")),
        ("disk", 1, None, "redis://a;redis://b", "redis://", "redis://r/x"),
        "memory, mongodb, off, or the address of one Redis",
    ),
    "HISTORY_DATABASE": (
        "repo_notify_history",
        (("notify-2", "notify-2"),),
        (*TEXT_BAD, "a.b", "a b", "x" * 61, "admin", "Config", "internal"),
        "the name of a database of its own",
    ),
    "HISTORY_BYTES": whole(67_108_864),
    "HISTORY_EVENTS": whole(10_000),
    "HISTORY_SECONDS": seconds(300.0, above=True),
    "POSITION_HEADER": (False, (("on", True), (True, True)), BOOLEAN_BAD, "true or false"),
    "MAX_OUTBOX_BYTES": whole(8_388_608),
    "MAX_OUTBOX_SECONDS": seconds(30.0, above=True),
    "MAX_OUTBOX_TOTAL_BYTES": whole(268_435_456),
    "MAX_PAYLOAD_PACKETS": whole(1_000),
    "MAX_HEADER_BYTES": whole(16_384),
    "REQUEST_TIMEOUT": seconds(75.0, above=True),
    "DRAIN_RATE": seconds(1_000.0, above=True),
    "SHUTDOWN_TIMEOUT": seconds(10.0, above=False),
    "LOG_LEVEL": (
        "warning",
        (("INFO", "info"), ("debug", "debug")),
        ("", None, "loud", 10),
        "one of debug, info, warning, error",
    ),
    "LOG_FORMAT": ("text", (("JSON", "json"),), ("", None, "xml", 1), "one of text, json"),
    "ACCESS_LOG": (False, (("on", True), (True, True)), BOOLEAN_BAD, "true or false"),
    "ASYNC_MODE": ("gevent", (("threading", "threading"),), ("", None, "eventlet", 1), "one of gevent, threading"),
}
GOOD = [(key, given, found) for key, row in TABLE.items() for given, found in row[1]]
BAD = [(key, given, row[3]) for key, row in TABLE.items() for given in row[2]]


def test_the_table_here_and_the_dataclass_hold_every_key() -> None:
    keys = [setting.key for setting in SETTINGS]
    assert sorted(TABLE) == sorted(keys)
    assert [field.name for field in fields(Settings)] == [key.lower() for key in keys]


@pytest.mark.parametrize("key", TABLE)
def test_default(key: str) -> None:
    assert getattr(read({}), key.lower()) == TABLE[key][0]


@pytest.mark.parametrize(("key", "given", "found"), GOOD)
def test_good_value(key: str, given: Any, found: Any) -> None:
    value = getattr(read({f"REPO_NOTIFY_{key}": given}), key.lower())
    assert (value, type(value)) == (found, type(found))


@pytest.mark.parametrize(("key", "given", "says"), BAD)
def test_bad_value_is_named_with_what_it_should_be(key: str, given: Any, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read({f"REPO_NOTIFY_{key}": given})
    (problem,) = caught.value.problems
    assert problem.startswith(f"REPO_NOTIFY_{key} should be ")
    assert says in problem


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (
            {"REPO_NOTIFY_CHATPATH": "/x"},
            "REPO_NOTIFY_CHATPATH is no setting of repo_notify; did you mean REPO_NOTIFY_CHAT_P",
        ),
        ({"REPO_NOTIFY_QQQQQQQQQQQQQ": 1}, "REPO_NOTIFY_QQQQQQQQQQQQQ is no setting of repo_notify"),
    ],
)
def test_unknown_key(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(config)
    assert caught.value.problems[0].startswith(problem)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read({"REPO_NOTIFY_CHAT_PATH": "chat", "REPO_NOTIFY_JOIN_RATE": 0, "REPO_NOTIFY_NONE": 1, "OTHER": object()})
    assert len(caught.value.problems) == 3
    assert str(caught.value) == "\n".join(caught.value.problems)


@pytest.mark.parametrize("key", ["MONGO_URI", "API_KEY", "MESSAGE_QUEUE", "EXPRESS_SECRET", "BACKEND_QUEUE", "HISTORY"])
def test_a_secret_is_not_repeated(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read({f"REPO_NOTIFY_{key}": ["user:hunter2", 3] if key in ("API_KEY", "EXPRESS_SECRET") else "oops://user:hunter2@db"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["redis://:hunter2@r:x/0", "redis://:hunter2@r/x", "amqp://u:hunter2@:5672//"])
def test_a_wrong_part_of_a_queue_address_is_named_without_its_secrets(address: str) -> None:
    with pytest.raises(SettingsError, match=r"should be an address such as .*, with a (port|database|host)") as caught:
        read({"REPO_NOTIFY_MESSAGE_QUEUE": address})
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"BACKEND_QUEUE": "amqp://q//"}, False),
        ({"BACKEND_QUEUE": ""}, True),
        ({"BACKEND_QUEUE": "amqp://q//", "LEGACY_PERMISSIONS": True}, True),
    ],
)
def test_behind_a_backend_older_data_grants_nothing_unless_that_is_set(config: dict[str, Any], found: bool) -> None:
    assert read({f"REPO_NOTIFY_{key}": value for key, value in config.items()}).legacy_permissions is found


def test_environment() -> None:
    environ = {
        "REPO_NOTIFY_JOIN_RATE": "2",
        "REPO_NOTIFY_ALLOWED_ORIGINS": "https://a,https://b",
        "REPO_NOTIFY_ENV": "production",
        "REPO_NOTIFY_TEST_MONGO_URI": "x",
        "PATH": "/bin",
    }
    found = from_environment(environ)
    assert sorted(found) == ["REPO_NOTIFY_ALLOWED_ORIGINS", "REPO_NOTIFY_JOIN_RATE"]
    settings = read(found)
    assert (settings.join_rate, settings.allowed_origins) == (2.0, ("https://a", "https://b"))


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"REPO_NOTIFY_JOIN_RATE": "fast"}, "REPO_NOTIFY_JOIN_RATE should be a number above 0, not 'fast'"),
        ({"REPO_NOTIFY_JOIN_RAT": "1"}, "did you mean REPO_NOTIFY_JOIN_RATE?"),
        ({"REPO_NOTIFY_ENV": "nowhere"}, "REPO_NOTIFY_ENV should be one of development, production, testing"),
        ({"REPO_NOTIFY_ENV": "production"}, "SECRET_KEY should be the REST API's SECRET_KEY"),
        ({"PORT": "http"}, "PORT should be a whole number from 0 to 65535, not 'http'"),
        ({"PORT": "65536"}, "PORT should be a whole number from 0 to 65535"),
        ({"REPO_NOTIFY_ASYNC_MODE": "threading"}, "REPO_NOTIFY_ASYNC_MODE should be gevent"),
    ],
)
def test_the_start_stops_with_the_message_alone(environ: dict[str, str], says: str) -> None:
    done = run("wsgi", REPO_NOTIFY_LEGACY_V4="no", **environ)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_markdown_tells_every_key_once_with_default_and_help() -> None:
    rows = [line for line in settings_markdown().splitlines() if line.startswith("| `REPO_NOTIFY_")]
    shown = {re.findall(r"`(REPO_NOTIFY_\w+)`", row)[0]: row for row in rows}
    assert len(rows) == len(shown)
    assert shown.keys() == {found.name for found in SETTINGS}
    assert all(found.help in shown[found.name] for found in SETTINGS)


def test_defaults_pass_their_own_checks_as_json_strings() -> None:
    """What the documentation shows as a default can be put into the environment as it stands."""
    for found in SETTINGS:
        if isinstance(found.default, str | bool | int | float):
            shown = found.default if isinstance(found.default, str) else json.dumps(found.default)
            assert found.check(shown) == found.default
