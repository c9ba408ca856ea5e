"""What an operator reads in the log: of the standalone service, of gunicorn, and of a mounted app."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from pymongo.uri_parser import parse_uri
from websocket import WebSocketBadStatusException, create_connection

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.conftest import UNWATCHED, host_defaults
from tests.support.chat import ChatClient
from tests.support.command import repo_notify
from tests.support.nginx import nginx
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, User, host_app
from tests.support.service import ROOT, command, service, service_environment
from tests.support.tcp_proxy import TcpProxy
from tests.support.until import until

ROOM = {"notifications": True}
TEXT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) [\w.]+: .+")
OPERATING = (ROOT / "docs" / "operating.md").read_text("utf-8")
API_KEY = "9f2c-not-to-be-logged"
POLLING, WEBSOCKET = "EIO=4&transport=polling", "EIO=4&transport=websocket"


class Log:
    """What a server has written to its standard error so far."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def text(self) -> str:
        return self._path.read_text("utf-8")

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def having(self, part: str) -> list[str]:
        return [line for line in self.lines if part in line]


@contextmanager
def mounted(path: Path, config: dict[str, Any]) -> Iterator[tuple[Served, Log]]:
    with path.open("w") as errors, host_app(config, stderr=errors.fileno()) as served:
        yield served, Log(path)


@contextmanager
def standalone(path: Path, words: list[str], port: int, env: dict[str, str]) -> Iterator[tuple[Served, Log]]:
    """Serve with that command; what it writes to standard error goes to the file."""
    flags = "os.O_WRONLY | os.O_CREAT | os.O_APPEND"
    program = f"import os, sys; os.dup2(os.open(sys.argv[1], {flags}), 2); os.execv(sys.executable, "
    words = ["-c", program + "[sys.executable, *sys.argv[2:]])", str(path), *words]
    with service(words, env, port) as served:
        yield served, Log(path)


def refused(url: str, query: str, **headers: str) -> None:
    assert requests.get(f"{url}/chat/?{query}", headers=headers, timeout=SECONDS).status_code == 400


def test_what_is_refused_at_the_door_is_logged_once_with_the_cure(sample: str, tmp_path: Path) -> None:
    with mounted(tmp_path / "log", {**host_defaults(sample), "REPO_NOTIFY_LEGACY_V4": False}) as (served, log):
        for _ in range(3):
            refused(served.url, POLLING, Origin="https://elsewhere.example")
            refused(served.url, "EIO=3&transport=polling")
            refused(served.url, WEBSOCKET)
            for _ in range(3):
                refused(served.url, POLLING + "&sid=nobodys")
        until(lambda: len(log.lines) >= 4, lambda: log.text)
        (origin,) = log.having("https://elsewhere.example")
        assert f"asked as http://127.0.0.1:{served.port}" in origin
        assert "REPO_NOTIFY_ALLOWED_ORIGINS is empty" in origin
        assert "REPO_NOTIFY_TRUSTED_PROXIES (now 0)" in origin
        (old,) = log.having("a client of Engine.IO 3")
        assert "REPO_NOTIFY_LEGACY_V4 is false" in old
        assert len(log.having("without the header Upgrade")) == 1
        assert len(log.having("sticky sessions")) == 1
        assert len(log.lines) == 4


def test_what_a_client_writes_cannot_write_the_log(sample: str, tmp_path: Path) -> None:
    with mounted(tmp_path / "log", host_defaults(sample)) as (served, log):
        refused(served.url, POLLING, Origin="https://elsewhere.example/\x1b[31m" + "x" * 500)
        until(lambda: log.having("elsewhere") != [])
        assert "\x1b" not in log.text
        assert len(log.lines[0]) < 600


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"SECRET_KEY": "another"}, "the session cookie 'session' of a handshake is not signed with SECRET_KEY"),
        ({"SESSION_COOKIE_NAME": "sid"}, "its session in the cookie 'session', but SESSION_COOKIE_NAME is 'sid'"),
    ],
)
def test_a_session_that_cannot_be_read_is_logged_with_the_cure(
    sample: str, tmp_path: Path, host: Served, chat: Callable[..., ChatClient], config: dict[str, str], expected: str
) -> None:
    cookie = User(host).log_in("carol").cookie
    with mounted(tmp_path / "log", {**host_defaults(sample), **config}) as (served, log):
        for _ in range(3):
            chat(served.url, cookie=cookie)
        chat(served.url)
        until(lambda: log.lines != [])
        (line,) = log.lines
        assert expected in line
        assert cookie.removeprefix("session=") not in log.text


def test_mongodb_gone_and_back_are_a_line_each(
    sample: str, tmp_path: Path, chat: Callable[..., ChatClient]
) -> None:
    ((_, port),) = parse_uri(sample)["nodelist"]
    with TcpProxy(port or 27017) as proxy:
        config = {**host_defaults(f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true")}
        config |= {"REPO_NOTIFY_PERMISSION_TIMEOUT": 0.5, "REPO_NOTIFY_PERMISSION_CACHE_SECONDS": 0}
        # A look at the members would have a line of its own.
        config |= UNWATCHED
        with mounted(tmp_path / "log", config) as (served, log):
            client = chat(served.url, cookie=User(served).log_in("carol").cookie)
            room = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
            until(lambda: client.ask("join", room).get("event") == "success")
            proxy.freeze(new_too=True)
            for _ in range(5):
                assert client.ask("join", room)["code"] == "SERVICE_UNAVAILABLE"
            assert len(log.lines) == 1, log.text
            assert "an access list could not be read" in log.text
            proxy.thaw()
            until(lambda: client.ask("join", room).get("event") == "success")
            until(lambda: log.having("access lists can be read again") != [])
            assert len(log.lines) == 2, log.text


def break_a_connection(served: Served) -> str:
    """Have a connection logged; return its id."""
    websocket = create_connection(f"ws://127.0.0.1:{served.port}/chat/?{WEBSOCKET}", timeout=SECONDS)
    opened: str = json.loads(str(websocket.recv())[1:])["sid"]
    websocket.send("9")
    websocket.close()
    return opened


def test_lines_of_the_service_have_time_level_and_logger(sample: str, tmp_path: Path) -> None:
    port = free_port()
    env = service_environment(sample, REPO_NOTIFY_LOG_LEVEL="INFO")
    with standalone(tmp_path / "log", command("serve", port), port, env) as (served, log):
        sid = break_a_connection(served)
        until(lambda: log.having(f" INFO repo_notify.engine: connection {sid[:8]}: ") != [], lambda: log.text)
        refused(served.url, "EIO=9&transport=polling")
        until(lambda: log.having(" WARNING repo_notify.web.refusals: ") != [], lambda: log.text)
        assert [line for line in log.lines if not TEXT.fullmatch(line)] == []
        # Who knows the whole id can send for the connection.
        assert sid not in log.text


@pytest.mark.parametrize("way", ["wsgi.py", "gunicorn"])
def test_the_service_logs_in_json(sample: str, tmp_path: Path, way: str) -> None:
    port = free_port()
    env = service_environment(sample, REPO_NOTIFY_LOG_LEVEL="info", REPO_NOTIFY_LOG_FORMAT="json")
    with standalone(tmp_path / "log", command(way, port), port, env) as (served, log):
        sid = break_a_connection(served)
        until(lambda: log.having(f'"connection": "{sid[:8]}"') != [], lambda: log.text)
        found = json.loads(log.having('"connection"')[0])
        assert found["level"] == "info"
        assert found["logger"] == "repo_notify.engine"
        assert found["message"].startswith(f"connection {sid[:8]}: ")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])


@pytest.mark.parametrize(("name", "wrong"), [("REPO_NOTIFY_LOG_LEVEL", "loud"), ("REPO_NOTIFY_LOG_FORMAT", "xml")])
def test_wrong_settings_of_logs_stop_the_start(name: str, wrong: str) -> None:
    done = repo_notify("serve", "--port", "0", **{name: wrong, "SECRET_KEY": "x"})
    assert done.returncode == 1
    assert f"{name} should be one of" in done.stderr
    assert "Traceback" not in done.stderr


def use_secrets(served: Served, chat: Callable[..., ChatClient], cookie: str) -> None:
    """Do all that brings a secret: a cookie, a session id in the query, a key, ids of connections; well and badly."""
    value = cookie.partition("=")[2]
    for query in (POLLING, WEBSOCKET, "EIO=9&transport=polling"):
        requests.get(
            f"{served.url}/chat/?{query}&connect.sid={value}", headers={"Cookie": cookie, "Referer": f"http://x/?s={value}"},
            timeout=SECONDS,
        )  # fmt: skip
    for key in (API_KEY, "a wrong " + API_KEY):
        headers = {"Authorization": f"Bearer {key}"}
        requests.post(served.url + "/notify/events", data="{", headers=headers, timeout=SECONDS)
    client = chat(served.url, cookie=cookie, transports=("polling", "websocket"))
    client.ask("join", ROOM)
    client.close()
    with socket.create_connection(("127.0.0.1", served.port), timeout=SECONDS) as raw:
        raw.sendall(f"GET /chat/?connect.sid={value} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".encode())
        assert b" 400 " in raw.recv(1000)
    with pytest.raises(WebSocketBadStatusException):
        create_connection(f"ws://127.0.0.1:{served.port}/chat/?{WEBSOCKET}&sid=nobodys&connect.sid={value}")


@pytest.mark.parametrize("way", ["serve", "gunicorn", "gthread"])
def test_no_log_repeats_a_secret(
    sample: str, tmp_path: Path, host: Served, chat: Callable[..., ChatClient], way: str
) -> None:
    """Everything on, access logs included; of our worker in gunicorn's default format, which has the request line."""
    port = free_port()
    cookie = "connect.sid=" + User(host).log_in("carol").cookie.partition("=")[2]
    logs = {"REPO_NOTIFY_LOG_LEVEL": "debug", "REPO_NOTIFY_ACCESS_LOG": "true"}
    env = service_environment(sample, REPO_NOTIFY_API_KEY=API_KEY, **logs)
    words = command("serve" if way == "serve" else "gunicorn", port)
    if way != "serve":
        words += ["--access-logfile", "/dev/stderr", "--log-level", "debug"]
    if way == "gthread":
        # The last one counts.
        form = re.search("--access-logformat '(.*)'", OPERATING)
        assert form is not None
        words += ["--access-logformat", form[1], "-k", "gthread", "--threads", "20"]
        env["REPO_NOTIFY_ASYNC_MODE"] = "threading"
    with standalone(tmp_path / "log", words, port, env) as (served, log):
        use_secrets(served, chat, cookie)
        until(lambda: len(log.having("GET /chat/")) >= 7, lambda: log.text)
        until(lambda: log.having("POST /notify/events") != [], lambda: log.text)
        assert cookie.partition("=")[2] not in log.text
        assert API_KEY not in log.text
        assert "connect.sid=" not in log.text
        assert "transport=" not in log.text


def test_the_access_log_is_off_unless_it_is_asked_for(sample: str, tmp_path: Path) -> None:
    port = free_port()
    env = service_environment(sample, REPO_NOTIFY_LOG_LEVEL="info")
    with standalone(tmp_path / "log", command("serve", port), port, env) as (served, log):
        requests.get(served.url + "/notify/healthz", timeout=SECONDS)
        break_a_connection(served)
        until(lambda: log.having("connection ") != [])
        assert log.having("healthz") == []


def test_the_access_log_has_a_line_a_request(sample: str, tmp_path: Path) -> None:
    config = {**host_defaults(sample), "REPO_NOTIFY_ACCESS_LOG": True, "LOG_FORMAT": "json"}
    with mounted(tmp_path / "log", config) as (served, log):
        requests.get(served.url + "/notify/healthz?secret=1", timeout=SECONDS)
        break_a_connection(served)
        until(lambda: len(log.having("repo_notify.access")) >= 2, lambda: log.text)
        plain, websocket = (json.loads(line) for line in log.having("repo_notify.access")[:2])
        assert (plain["method"], plain["path"], plain["status"]) == ("GET", "/notify/healthz", "200")
        assert plain["address"] == "127.0.0.1"
        assert plain["bytes"] > 0
        assert 0 <= plain["seconds"] < SECONDS
        assert (websocket["path"], websocket["status"]) == ("/chat/", "101")



def test_the_documented_lines_are_logged_by_the_documented_loggers() -> None:
    rows = re.findall(r"^\| `([^`]+)` \(`repo_notify\.([\w.]+)`, \w+\) \|", OPERATING, re.MULTILINE)
    assert len(rows) >= 10
    for line, module in rows:
        source = (ROOT / "repo_notify" / f"{module.replace('.', '/')}.py").read_text("utf-8")
        # A long text stands in several pieces.
        assert line in re.sub(r'"\s*\n\s*"', "", source), (line, module)


@pytest.mark.slow
@pytest.mark.unmeasured
def test_nginx_with_the_documented_formats_logs_no_query(tmp_path: Path, host: Served) -> None:
    """Neither of what is answered, nor, in the error log, of what cannot be."""
    form, logs = (found[1] for found in re.finditer(r"```nginx\n(.*?)```", OPERATING, re.DOTALL))
    logs = logs.replace("/var/log/nginx", str(tmp_path))
    port, nobody = free_port(), free_port()
    locations = "".join(
        f"location {path} {{ {logs} proxy_pass http://127.0.0.1:{upstream}; }}"
        for path, upstream in (("/chat/", host.port), ("/gone/", nobody))
    )
    http = f"{form} server {{ listen 127.0.0.1:{port}; {locations} }}"
    with nginx(tmp_path, http, f"http://127.0.0.1:{port}") as front:
        query = f"{POLLING}&connect.sid=secret"
        assert requests.get(f"{front.url}/chat/?{query}", timeout=SECONDS).status_code == 200
        assert requests.get(f"{front.url}/gone/?{query}", timeout=SECONDS).status_code == 502
    written = {path: path.read_text("utf-8") for path in tmp_path.glob("*.log")}
    assert '"GET /chat/ HTTP/1.1" 200' in written[tmp_path / "notify.log"]
    assert '"GET /gone/ HTTP/1.1" 502' in written[tmp_path / "notify.log"]
    assert "secret" not in "".join(written.values())
