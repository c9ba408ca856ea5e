"""A 3D Repo backend's configuration as the service's: the keys, the file, `serve` and `doctor` (spec section 11)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from pymongo import MongoClient

from repo_notify.backend.config import read_config
from repo_notify.backend.config_file import load
from repo_notify.doctor.checks import cookie_domain
from repo_notify.errors import SettingsError
from repo_notify.settings import read
from tests.support.chat import ChatClient
from tests.support.command import repo_notify
from tests.support.express import SECRET, ExpressStore, cookie
from tests.support.ports import free_port
from tests.support.served import running
from tests.support.service import ROOT, USERS, service, service_environment

BACKEND: dict[str, Any] = {
    "host": "app.example.org",
    "cookie": {"secret": "hunter2", "parser_secret": "b", "maxAge": 3_600_000, "domain": "example.org"},
    "servers": [
        {"service": "api", "subdirectory": "api"},
        {"service": "chat", "port": 3001, "subdirectory": "chat", "external": True},
    ],
    "db": {"host": "127.0.0.1", "port": 27227},
    "cn_queue": {"host": "amqp://localhost:5672", "event_exchange": "eventExchange", "worker_queue": "jobq"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the configuration with another value under a key; None takes the key out."""
    document = json.loads(json.dumps(BACKEND))
    *parents, last = path.split(".")
    found = document
    for part in parents:
        found = found[int(part) if part.isdigit() else part]
    if value is None:
        del found[last]
    else:
        found[last] = value
    return document  # type: ignore[no-any-return]


def test_what_it_says() -> None:
    found = read_config(BACKEND)
    assert found.port == 3001
    assert found.settings == {
        "REPO_NOTIFY_CHAT_PATH": "/chat",
        "REPO_NOTIFY_MONGO_URI": "mongodb://127.0.0.1:27227/",
        "REPO_NOTIFY_EXPRESS_SECRET": ["hunter2"],
        "REPO_NOTIFY_BACKEND_QUEUE": "amqp://localhost:5672",
        "REPO_NOTIFY_BACKEND_EXCHANGE": "eventExchange",
        "REPO_NOTIFY_LEGACY_PERMISSIONS": False,
        "SESSION_COOKIE_DOMAIN": "example.org",
    }


@pytest.mark.parametrize(
    ("database", "uri"),
    [
        ({}, "mongodb://app.example.org:27017/"),
        ({"host": ["a", "b"], "port": [1, 2], "replicaSet": "rs0"}, "mongodb://a:1,b:2/?replicaSet=rs0"),
        (
            {"host": "::1", "username": "u@x", "password": "p/:@", "authSource": "admin"},
            "mongodb://u%40x:p%2F%3A%40@[::1]:27017/?authSource=admin",
        ),
    ],
)
def test_where_mongodb_is(database: Mapping[str, Any], uri: str) -> None:
    found = read_config({**BACKEND, "db": database}).settings["REPO_NOTIFY_MONGO_URI"]
    assert found == uri
    assert read({"REPO_NOTIFY_MONGO_URI": found}).mongo_uri == uri


@pytest.mark.parametrize(
    ("path", "value", "key", "found"),
    [
        ("cookie.secret", ["a,b", "c"], "REPO_NOTIFY_EXPRESS_SECRET", ["a,b", "c"]),
        ("servers.1.subdirectory", None, "REPO_NOTIFY_CHAT_PATH", "/chat"),
        ("servers.1.subdirectory", "/talk/", "REPO_NOTIFY_CHAT_PATH", "/talk"),
    ],
)
def test_other_forms(path: str, value: Any, key: str, found: Any) -> None:
    assert read_config(changed(path, value)).settings[key] == found


def test_a_chat_server_without_a_port_has_the_whole_ones() -> None:
    assert read_config({**changed("servers.1.port", None), "port": 8080}).port == 8080


WRONG: list[tuple[str, Any, str]] = [
    ("servers", None, "servers should be a list of servers, and is missing"),
    ("servers", {}, "servers should be a list of servers, and is not"),
    ("servers", [{"service": "api"}, "chat"], 'servers should have an entry with `service: "chat"`, and there is none'),
    ("servers.1.port", None, "servers (the chat server's entry): port should be a port"),
    ("servers.1.port", "3000", "servers (the chat server's entry): port should be a port"),
    ("servers.1.port", True, "servers (the chat server's entry): port should be a port"),
    ("servers.1.subdirectory", 3, "servers (the chat server's entry): subdirectory should be a path"),
    ("db.port", 0, "db.port should be a port, or a list of them"),
    ("db.port", [1, 2], "db.port should have as many ports as db.host has hosts (1), not 2"),
    ("db.host", [], "db.host should be a host's name"),
    ("db.username", "u", "db.username and db.password should both be there, or neither"),
    ("db.replicaSet", 3, "db.replicaSet should be a string"),
    ("cookie", None, "cookie.secret should be a secret, or a list of them, and is missing"),
    ("cookie.secret", "", "cookie.secret should be a secret"),
    ("cookie.secret", [3], "cookie.secret should be a secret"),
    ("cookie.domain", 3, "cookie.domain should be a domain"),
    ("cookie.maxAge", "1h", "cookie.maxAge should be a number of milliseconds above 0"),
    ("cn_queue", None, "cn_queue.host should be an address such as amqp://localhost:5672, and is missing"),
    ("cn_queue.host", "localhost", "cn_queue.host should be an address"),
    ("cn_queue.event_exchange", None, "cn_queue.event_exchange should be an exchange's name"),
]


@pytest.mark.parametrize(("path", "value", "says"), WRONG)
def test_a_wrong_key_is_named_and_no_secret_shown(path: str, value: Any, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_config(changed(path, value))
    assert caught.value.problems[0].startswith(says)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "x", 3])
def test_what_is_no_object(document: Any) -> None:
    with pytest.raises(SettingsError, match="should be an object"):
        read_config(document)


def test_several_hosts_need_the_name_of_their_set() -> None:
    with pytest.raises(SettingsError, match=r"^db\.replicaSet should be the replica set's name"):
        read_config({**BACKEND, "db": {"host": ["a", "b"], "port": [1, 2]}})


JAVASCRIPT = """
console.log("hello");
const secret = "hunter" + 2;
module.exports = { ...%s, cookie: { secret, domain: "example.org" }, unused: () => 1 };
"""
MODULES = {
    "config.js": JAVASCRIPT % json.dumps(BACKEND),
    "config.mjs": f"export default {json.dumps(BACKEND)};",
    "config.json": json.dumps(BACKEND),
    "json.js": json.dumps(BACKEND),
}


@pytest.mark.parametrize("name", MODULES)
def test_files(name: str, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    path = tmp_path / name
    path.write_text(MODULES[name])
    assert load(path).settings == read_config(BACKEND).settings


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("config.json", "{", "should hold JSON"),
        ("config.json", "{}", "servers should be a list"),
        ("config.js", 'module.exports = { secret: "hunter2" ', "Node cannot evaluate it: SyntaxError"),
        ("config.js", 'throw new Error("no");', "Node cannot evaluate it: Error: no"),
        ("config.js", "process.exit(3);", "Node cannot evaluate it: exit code 3"),
        ("config.mjs", "export default undefined;", "servers should be a list"),
        ("config.mjs", "export default () => 1;", "should export an object"),
    ],
)
def test_files_that_cannot_be_read(name: str, text: str, says: str, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("needs node")
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_without_node_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.js"
    path.write_text(MODULES["config.js"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="Node is not installed: install it, or print the file as JSON"):
        load(path)


@pytest.fixture
def store(mongo: MongoClient[dict[str, Any]], sample: str) -> Iterator[ExpressStore]:
    made = ExpressStore(mongo)
    yield made
    made.drop()


def written(folder: Path, mongo_uri: str, port: int, secret: str = SECRET) -> Path:
    """Write the configuration of a backend whose database is there."""
    parts = urlsplit(mongo_uri)
    document = {
        **BACKEND,
        "cookie": {"secret": secret},
        "servers": [{"service": "chat", "port": port}],
        "db": {"host": parts.hostname, "port": parts.port},
    }
    path = folder / "config.json"
    path.write_text(json.dumps(document))
    return path


def environ_for(store: ExpressStore, mongo_uri: str) -> dict[str, str]:
    """Return an environment without what the file says."""
    name = store.config["REPO_NOTIFY_EXPRESS_SESSIONS"]
    environ = service_environment(mongo_uri, REPO_NOTIFY_EXPRESS_SESSIONS=name)
    for key in ("REPO_NOTIFY_MONGO_URI", "SECRET_KEY", "REPO_NOTIFY_ENV"):
        del environ[key]
    return environ


def test_serve_needs_nothing_but_the_file(sample: str, store: ExpressStore, tmp_path: Path) -> None:
    port = free_port()
    arguments = ["-m", "repo_notify", "serve", "--3drepo-config", str(written(tmp_path, sample, port))]
    with (
        service(arguments, environ_for(store, sample), port) as served,
        closing(ChatClient(served.url, cookie=cookie(store.log_in("carol")))) as client,
    ):
        assert client.ask("join", {"notifications": True})["event"] == "success"


def test_the_port_of_the_file_counts_where_no_other_is_given(
    sample: str, store: ExpressStore, tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "repo_notify", "serve", "--3drepo-config", str(written(tmp_path, sample, port))]
    with running(command, {**environ_for(store, sample), "PYTHONPATH": str(ROOT)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening on http://127.0.0.1:{port}\n"


def test_the_environment_counts_before_the_file(sample: str, tmp_path: Path) -> None:
    path = written(tmp_path, sample, 3000)
    done = repo_notify("serve", "--3drepo-config", str(path), REPO_NOTIFY_CHAT_PATH="wrong")
    assert done.returncode == 1
    assert "REPO_NOTIFY_CHAT_PATH should be a path" in done.stderr


def asked(store: ExpressStore, sample: str, folder: Path, *arguments: str, secret: str = SECRET) -> tuple[int, str]:
    path = written(folder, sample, 3000, secret)
    done = repo_notify(
        "doctor",
        "--3drepo-config",
        str(path),
        *arguments,
        REPO_NOTIFY_EXPRESS_SESSIONS=store.config["REPO_NOTIFY_EXPRESS_SESSIONS"],
        REPO_NOTIFY_USERS_COLLECTION=USERS,
        # There is no broker here; its checks are tested with one.
        REPO_NOTIFY_BACKEND_QUEUE="",
    )
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def test_doctor(sample: str, store: ExpressStore, tmp_path: Path) -> None:
    code, text = asked(store, sample, tmp_path)
    assert code == 0, text
    assert f"the Express app's sessions can be read: admin.{store.name}, cookie connect.sid" in text
    assert f"admin.{store.name} holds no session: log in" in text
    value = cookie(store.log_in("carol")).partition("=")[2]
    code, text = asked(store, sample, tmp_path, "--cookie", value)
    assert (code, "holds no session" in text) == (0, False), text
    assert "cookie: it is carol's session" in text


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("secret", "cookie: it was signed with another secret"),
        ("gone", "cookie: there is no such session any more"),
        ("nobody", "cookie: nobody is logged in in its session"),
    ],
)
def test_doctor_and_a_cookie_that_is_nobodys(
    how: str, says: str, sample: str, store: ExpressStore, tmp_path: Path
) -> None:
    made = {"secret": store.log_in("carol"), "gone": "gone", "nobody": store.save({})}
    header = cookie(made[how], "another's" if how == "secret" else SECRET)
    code, text = asked(store, sample, tmp_path, "--cookie", header)
    assert code == 1
    assert says in text


@pytest.mark.parametrize(
    ("url", "domain", "found"),
    [
        ("https://chat.example.org", "example.org", True),
        ("https://example.org:444", ".Example.org", True),
        ("https://chat.example.org", None, True),
        ("https://chat.example.net", "example.org", False),
        ("https://notexample.org", "example.org", False),
    ],
)
def test_the_domain_of_the_cookie(url: str, domain: str | None, found: bool) -> None:
    app = Flask(__name__)
    app.config["SESSION_COOKIE_DOMAIN"] = domain
    assert (list(cookie_domain(app, url)) == []) is found


def test_doctor_names_the_wrong_keys_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(changed("cookie", None)))
    done = repo_notify("doctor", "--3drepo-config", str(path))
    assert done.returncode == 1
    assert "cookie.secret should be a secret, or a list of them, and is missing" in done.stdout
