"""`repo-notify doctor` and `flask repo-notify doctor`: each finding a line with its cure, and an exit code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from pymongo import MongoClient

from tests.conftest import USERS, host_defaults
from tests.support import brokers
from tests.support.command import SECONDS as COMMAND_SECONDS
from tests.support.command import environment, repo_notify, run
from tests.support.guarded import PASSWORD, guarded, uri
from tests.support.nginx import nginx
from tests.support.ports import free_port
from tests.support.served import Served, User, host_app
from tests.support.service import HOST_KEY, ROOT

pytestmark = pytest.mark.slow

COOKIE_NAME = "connect.sid"


def doctor(*arguments: str, text: str = "", **environ: str) -> CompletedProcess[str]:
    """Run the command; whatever it finds it says in lines, and never where it comes from."""
    done = repo_notify("doctor", *arguments, text=text, **environ)
    assert "Traceback" not in done.stdout + done.stderr
    assert all(line.startswith(("ok    ", "note  ", "WRONG ")) for line in done.stdout.splitlines()), done.stdout
    assert done.returncode == int("WRONG" in done.stdout), done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def healthy(sample: str) -> dict[str, str]:
    return {
        "REPO_NOTIFY_MONGO_URI": sample,
        "REPO_NOTIFY_USERS_COLLECTION": USERS,
        "SECRET_KEY": HOST_KEY,
        "REPO_NOTIFY_API_KEY": "key",
    }


def test_a_healthy_environment(healthy: dict[str, str]) -> None:
    done = doctor(**healthy)
    assert done.returncode == 0
    assert done.stdout.splitlines()[:4] == [
        "ok    the settings are right",
        "ok    MongoDB answers",
        "ok    permissions can be read: admin.users and the teamspaces",
        "ok    sessions are in the cookie connect.sid, signed with SECRET_KEY",
    ]


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"REPO_NOTIFY_JOIN_RATE": "0"}, "WRONG REPO_NOTIFY_JOIN_RATE should be a number above 0, not '0'"),
        ({"REPO_NOTIFY_CHAT_PAHT": "/x"}, "WRONG REPO_NOTIFY_CHAT_PAHT is no setting of repo_notify; did you mean"),
        ({"SECRET_KEY": ""}, "WRONG SECRET_KEY should be the REST API's SECRET_KEY"),
        ({"REPO_NOTIFY_USERS_COLLECTION": "nobody"}, "WRONG admin.nobody holds no account: set REPO_NOTIFY_USERS_COLL"),
        ({"REPO_NOTIFY_MONGO_URI": "mongodb://{closed}"}, "WRONG MongoDB does not answer: start it, or correct"),
        (
            {"REPO_NOTIFY_MESSAGE_QUEUE": "redis://user:hunter2@{closed}/0"},
            "WRONG the message queue cannot be reached",
        ),
        (
            {"REPO_NOTIFY_HISTORY": "redis://user:hunter2@{closed}/0"},
            "WRONG the history's Redis cannot be reached (ConnectionError): start it, or correct REPO_NOTIFY_HISTORY",
        ),
        ({"SESSION_TYPE": "nonsense"}, "WRONG SESSION_TYPE should be a kind that Flask-Session knows"),
        ({"SESSION_TYPE": "mongodb"}, "ok    the session store answers"),
        ({"REPO_NOTIFY_API_KEY": ""}, "note  publishing from outside and the operator's view are off: set"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_with_its_cure(healthy: dict[str, str], environ: dict[str, str], says: str) -> None:
    closed = f"127.0.0.1:{free_port()}"
    filled = {name: value.format(closed=closed) for name, value in environ.items()}
    done = doctor(**{**healthy, "REPO_NOTIFY_PERMISSION_TIMEOUT": "0.5", **filled})
    assert says in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert HOST_KEY not in done.stdout + done.stderr


def test_a_history_in_redis(healthy: dict[str, str], tmp_path: Path) -> None:
    with brokers.redis(tmp_path) as address:
        done = doctor(**{**healthy, "REPO_NOTIFY_HISTORY": address})
    assert done.returncode == 0
    assert "ok    no message queue is set: processes meet by the history in Redis" in done.stdout
    assert "ok    the history in Redis answers" in done.stdout


def test_a_history_in_mongodb(healthy: dict[str, str], sample: str, mongo: MongoClient[dict[str, Any]]) -> None:
    name = f"history_{uuid4().hex}"
    kept = {"REPO_NOTIFY_HISTORY": "mongodb", "REPO_NOTIFY_HISTORY_DATABASE": name}
    try:
        done = doctor(**healthy, **kept)
        assert done.returncode == 0
        assert f"ok    the history in MongoDB can be read and written: {name}" in done.stdout
        assert f"note  no history has begun in {name} yet: the service makes it" in done.stdout
        with host_app({**host_defaults(sample), **kept}):
            """It makes what it needs."""
        done = doctor(**healthy, **kept)
        assert done.returncode == 0
        assert "no history has begun" not in done.stdout
        mongo[name]["records"].drop_index("session")
        done = doctor(**healthy, **kept)
        assert f"WRONG {name} lacks the indexes records.session: start the service anew, which" in done.stdout
        assert mongo[name]["meta"].count_documents({}) == 1
    finally:
        mongo.drop_database(name)


@pytest.mark.parametrize(
    ("username", "says"),
    [
        ("reader", "WRONG MongoDB does not let the service keep its history: grant its user `readWrite` on kept"),
        ("nobody", "WRONG MongoDB refuses the service's login: correct the user and password"),
    ],
)
def test_rights_on_the_history(address: str, healthy: dict[str, str], username: str, says: str) -> None:
    kept = {"REPO_NOTIFY_HISTORY": "mongodb", "REPO_NOTIFY_HISTORY_DATABASE": "kept"}
    done = doctor(**{**healthy, **kept, "REPO_NOTIFY_MONGO_URI": uri(address, username)})
    assert says in done.stdout
    assert PASSWORD not in done.stdout + done.stderr


def test_a_history_in_a_mongodb_that_is_away(healthy: dict[str, str]) -> None:
    away = {"REPO_NOTIFY_MONGO_URI": f"mongodb://127.0.0.1:{free_port()}", "REPO_NOTIFY_PERMISSION_TIMEOUT": "0.5"}
    done = doctor(**{**healthy, **away, "REPO_NOTIFY_HISTORY": "mongodb"})
    assert re.search(r"WRONG the history's MongoDB cannot be reached \(\w+\): start it", done.stdout)


def test_a_session_store_that_is_away(healthy: dict[str, str]) -> None:
    away = {"REPO_NOTIFY_MONGO_URI": f"mongodb://127.0.0.1:{free_port()}", "REPO_NOTIFY_PERMISSION_TIMEOUT": "0.5"}
    done = doctor(**{**healthy, **away, "SESSION_TYPE": "mongodb"})
    assert re.search(r"WRONG the session store of SESSION_TYPE does not answer \(\w+\): start it", done.stdout)


@pytest.mark.parametrize(
    ("username", "says"),
    [
        ("no_accounts", "WRONG MongoDB does not let the service read the accounts: grant its user `find`"),
        ("no_teamspaces", "WRONG MongoDB does not let the service read a teamspace: grant its user `read`"),
        ("reader", "note  MongoDB is no replica set"),
        ("nobody", "WRONG MongoDB refuses the service's login: correct the user and password"),
    ],
)
def test_rights_in_the_database(address: str, healthy: dict[str, str], username: str, says: str) -> None:
    done = doctor(**{**healthy, "REPO_NOTIFY_MONGO_URI": uri(address, username)})
    assert says in done.stdout
    assert PASSWORD not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with guarded(tmp_path_factory.mktemp("guarded")) as found:
        yield found


def doctor_after(first: str, environ: dict[str, str]) -> str:
    """Run the command in a process that does something else before; return what it printed."""
    command = [sys.executable, "-c", f"{first}; import runpy; runpy.run_module('repo_notify', run_name='__main__')"]
    done = subprocess.run(
        [*command, "doctor"],
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        cwd=ROOT,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


def test_too_few_open_files(healthy: dict[str, str]) -> None:
    said = doctor_after("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))", healthy)
    assert "WRONG at most 256 files may be open, which is enough for 192 clients a process: raise it" in said


@pytest.mark.parametrize(
    ("package", "environ", "says"),
    [
        ("redis", {"REPO_NOTIFY_MESSAGE_QUEUE": "redis://127.0.0.1"}, "WRONG REPO_NOTIFY_MESSAGE_QUEUE needs the pack"),
        ("flask_session", {"SESSION_TYPE": "redis"}, "WRONG SESSION_TYPE needs the package Flask-Session: install"),
        ("legacy_v4", {}, "WRONG REPO_NOTIFY_LEGACY_V4 should be false, as the package legacy_v4 is not installed"),
        ("gunicorn", {}, "note  gunicorn is not installed, which several processes need: pip install"),
    ],
)
def test_a_package_that_is_missing(healthy: dict[str, str], package: str, environ: dict[str, str], says: str) -> None:
    # What an environment without it looks like to Python's imports.
    assert says in doctor_after(f"import sys; sys.modules[{package!r}] = None", {**healthy, **environ})


def test_a_folder_of_configuration(healthy: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "default.py").write_text("REPO_NOTIFY_CHAT_PATH = 'chat'\n")
    (tmp_path / "development.py").write_text("")
    done = doctor("--config", str(tmp_path), **healthy)
    assert "WRONG REPO_NOTIFY_CHAT_PATH should be a path that starts with /" in done.stdout
    done = doctor("--config", str(tmp_path), **healthy, REPO_NOTIFY_ENV="nowhere")
    assert "WRONG REPO_NOTIFY_ENV should be one of development, not 'nowhere'" in done.stdout


class TestCookies:
    """`--cookie`: whose session it is, or why nobody's."""

    @staticmethod
    def made(contents: dict[str, Any], key: str = HOST_KEY) -> str:
        app = Flask("maker")
        app.secret_key = key
        serializer = app.session_interface.get_signing_serializer(app)  # type: ignore[attr-defined]  # the cookie one
        return str(serializer.dumps(contents))

    @pytest.mark.parametrize("form", ["connect.sid={value}", "{value}", "a=b; connect.sid={value}"])
    def test_whose_it_is(self, healthy: dict[str, str], form: str) -> None:
        value = self.made({"user": {"username": "carol"}})
        done = doctor("--cookie", form.format(value=value), **healthy)
        assert "ok    cookie: it is carol's session" in done.stdout
        assert value not in done.stdout

    def test_from_standard_input(self, healthy: dict[str, str]) -> None:
        value = self.made({"user": {"username": "carol"}})
        assert "carol's" in doctor("--cookie", "-", text=value + "\n", **healthy).stdout

    @pytest.mark.parametrize(
        ("contents", "key", "name", "says"),
        [
            ({"user": {"username": "carol"}}, "other", COOKIE_NAME, "signed with another key, or was not copied whole"),
            ({"user": {"username": "carol"}}, HOST_KEY, "session", "there is none of the name connect.sid: copy"),
            ({"theme": "dark"}, HOST_KEY, COOKIE_NAME, 'nobody is logged in, as the session has no ["user"]'),
        ],
    )
    def test_why_it_is_nobodys(
        self, healthy: dict[str, str], contents: dict[str, Any], key: str, name: str, says: str
    ) -> None:
        value = self.made(contents, key)
        done = doctor("--cookie", f"{name}={value}", **healthy)
        assert "WRONG cookie: " in done.stdout
        assert says in done.stdout
        assert value not in done.stdout

    def test_of_a_session_that_has_ended(self, healthy: dict[str, str]) -> None:
        done = doctor("--cookie", "4f1c2a", **healthy, SESSION_TYPE="mongodb")
        assert "WRONG cookie: the session store has no such session: log in again" in done.stdout
        assert "4f1c2a" not in done.stdout


MOUNTED = """
from gevent import monkey
monkey.patch_all()
from flask import Flask
from repo_notify import RepoNotify
app = Flask("mounted")
app.config.from_prefixed_env("APP")
app.config.from_mapping({config})
notify = RepoNotify(app)
"""


def test_a_mounted_app(sample: str, tmp_path: Path) -> None:
    config = {**host_defaults(sample), "SESSION_COOKIE_PATH": "/api"}
    (tmp_path / "mounted.py").write_text(MOUNTED.format(config=config))
    done = run("flask", "--app", str(tmp_path / "mounted.py"), "repo-notify", "doctor")
    assert done.returncode == 1, done.stderr
    assert "ok    MongoDB answers\n" in done.stdout
    assert "WRONG SECRET_KEY is not set, so that nobody's session can be read" in done.stdout
    assert "WRONG browsers send the session cookie to /api alone and not to /chat" in done.stdout


OF_THE_APP = """
notify.permission_loader(lambda *asked: True)
notify.access_checker(lambda *asked: True)
"""


@pytest.mark.parametrize("checker", [False, True])
def test_an_app_with_rights_of_its_own(tmp_path: Path, checker: bool) -> None:
    config = {**host_defaults(f"mongodb://127.0.0.1:{free_port()}"), "SECRET_KEY": HOST_KEY}
    own = OF_THE_APP if checker else OF_THE_APP.partition("notify.access")[0]
    (tmp_path / "mounted.py").write_text(MOUNTED.format(config=config) + own)
    done = run("flask", "--app", str(tmp_path / "mounted.py"), "repo-notify", "doctor")
    assert "note  rights come from the app's permission_loader and not from MongoDB" in done.stdout
    assert ("note  the app's access_checker may refuse what these rights allow" in done.stdout) == checker
    assert "MongoDB does not answer" not in done.stdout
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def behind(sample: str) -> Iterator[Served]:
    config = {**host_defaults(sample), "SESSION_COOKIE_NAME": COOKIE_NAME, "REPO_NOTIFY_TRUSTED_PROXIES": 1}
    with host_app(config) as served:
        yield served


class TestPublicAddress:
    """`--url`: what a browser meets, through a real nginx."""

    PASSES = (
        "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; "
        "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host; "
        "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Port $server_port;"
    )

    def ask(self, behind: Served, folder: Path, block: str, *arguments: str, **environ: str) -> CompletedProcess[str]:
        port = free_port()
        http = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {behind.url}; {block} }} }}"
        with nginx(folder, http, f"http://127.0.0.1:{port}") as front:
            return doctor("--url", front.url, *arguments, **environ)

    def test_all_is_well(self, behind: Served, healthy: dict[str, str], tmp_path: Path) -> None:
        cookie = User(behind).log_in("carol").cookie
        done = self.ask(behind, tmp_path, self.PASSES, "--cookie", cookie, **healthy)
        for says in ("config.js: frontends are told http://127.0.0.1", "polling: a page", "WebSocket: a page"):
            assert f"ok    {says}" in done.stdout
        assert "ok    cookie: it is carol's session" in done.stdout
        assert "ok    cookie: the service knows its user through the proxy" in done.stdout
        assert done.returncode == 0

    @pytest.mark.parametrize(
        ("block", "says"),
        [
            ("proxy_set_header Host $http_host;", "WRONG WebSocket: the proxy does not pass the upgrade on: in nginx"),
            ("proxy_set_header X-Forwarded-Host a.internal;", "WRONG config.js: frontends are told http://a.internal:80"),
            ("proxy_set_header Host internal:80;", "WRONG polling: the origin http://127.0.0.1:"),
            (PASSES + "proxy_set_header Cookie '';", "WRONG cookie: the service does not know its user: have the"),
            (PASSES + "add_header Set-Cookie 'route=1; Path=/api';", "WRONG cookies: browsers send route to /api"),
            (PASSES + "rewrite ^/chat/?$ /elsewhere break;", "WRONG polling: nothing is there (404): have the proxy"),
            ("return 301 https://elsewhere;", "WRONG config.js: it is answered with a redirect"),
            ("return 502;", "WRONG polling: the proxy does not reach the service (502)"),
            ("return 200 'hello';", "WRONG polling: what answers (200) is not the service"),
        ],
    )
    def test_what_the_proxy_does_wrong(
        self, behind: Served, healthy: dict[str, str], tmp_path: Path, block: str, says: str
    ) -> None:
        cookie = User(behind).log_in("carol").cookie
        done = self.ask(behind, tmp_path, block, "--cookie", cookie, **healthy)
        assert says in done.stdout
        assert cookie.partition("=")[2] not in done.stdout

    def test_a_page_of_another_origin(self, behind: Served, healthy: dict[str, str], tmp_path: Path) -> None:
        done = self.ask(behind, tmp_path, self.PASSES, "--origin", "https://app.example.org", **healthy)
        assert "WRONG polling: the origin https://app.example.org is refused: list it in" in done.stdout
        assert "WRONG WebSocket: the origin https://app.example.org is refused" in done.stdout

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("app.example.org", "WRONG --url should be an address such as https://app.example.org"),
            ("http://[", "WRONG --url should be an address"),
            ("https://user:hunter2@app.example.org", "WRONG --url should be an address"),
            ("http://127.0.0.1:{closed}", "cannot be reached"),
        ],
    )
    def test_an_address_that_is_none(self, healthy: dict[str, str], url: str, says: str) -> None:
        done = doctor("--url", url.format(closed=free_port()), **healthy)
        assert says in done.stdout
        assert "hunter2" not in done.stdout
