"""The walk of docs/deploying.md: its app, started as its systemd unit does, in two processes behind its nginx."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import requests

from repo_notify.demo.seed import STRUCTURE, TOWER
from tests.support import brokers
from tests.support.chat import ChatClient
from tests.support.command import environment
from tests.support.documented import DEPLOYING, code_blocks, documented_nginx
from tests.support.nginx import nginx
from tests.support.ports import free_port
from tests.support.served import SECONDS, Served, running
from tests.support.service import ROOT, USERS
from tests.support.tls import certificates
from tests.support.until import until

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

ROOM = {"teamspace": "acme", "project": TOWER, "model": STRUCTURE}
DROP_IN = ROOT / "deploy" / "systemd" / "mounted.conf"
ENVIRONMENT = ROOT / "deploy" / "systemd" / "repo-notify.env"


@dataclass(frozen=True)
class Site:
    front: Served
    authority: str


def drop_in() -> dict[str, str]:
    """The settings of the systemd drop-in by name, the last of each."""
    return dict(line.split("=", 1) for line in DROP_IN.read_text().splitlines() if not line.startswith(("#", "[")))


def command() -> list[str]:
    program, *arguments = shlex.split(drop_in()["ExecStart"])
    assert Path(program).name == "python"
    return [sys.executable, *arguments]


def documented_environment(mongo_uri: str, queue: str) -> dict[str, str]:
    """The example that is filled in, for servers of the tests' own."""
    lines = ENVIRONMENT.read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    ours = {"SECRET_KEY": "a key", "REPO_NOTIFY_MONGO_URI": mongo_uri, "REPO_NOTIFY_MESSAGE_QUEUE": queue}
    assert ours.keys() <= example.keys()
    return environment(**{**example, **ours, "REPO_NOTIFY_USERS_COLLECTION": USERS})


@pytest.fixture(scope="module")
def site(sample: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("myapp")
    authority, certificate = certificates(folder)
    (source,) = code_blocks(DEPLOYING, "python")
    (folder / "app.py").write_text(source)
    with ExitStack() as stack:
        queue = stack.enter_context(brokers.redis(folder))
        environ = documented_environment(sample, queue)
        ports = [free_port(), free_port()]
        for port in ports:
            name, value = drop_in()["Environment"].replace("%i", str(port)).split("=")
            process = stack.enter_context(running(command(), {**environ, name: value}, cwd=folder))
            until(partial(is_up, process, port))
            assert process.poll() is None, "the app did not start"
        front_port = free_port()
        http = documented_nginx(folder, certificate, front_port, ports)
        front = stack.enter_context(nginx(folder, http, f"https://localhost:{front_port}"))
        yield Site(front, str(authority))


def is_up(process: subprocess.Popen[str], port: int) -> bool:
    """Whether it is ready, or has ended."""
    return process.poll() is not None or is_ready(port)


def is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/notify/readyz", timeout=SECONDS).status_code == 200
    except requests.ConnectionError:
        return False


def test_a_change_over_the_rest_api_reaches_the_clients_of_both_processes(
    site: Site, chat: Callable[..., ChatClient]
) -> None:
    http = requests.Session()
    http.trust_env = False
    http.verify = site.authority
    url = site.front.url
    http.post(f"{url}/login", json={"username": "alice"}, timeout=SECONDS).raise_for_status()
    cookie = f"session={http.cookies['session']}"
    clients = [
        chat(
            url,
            cookie=cookie,
            headers={"X-Claimed-Address": f"198.51.100.{number}"},
            transports=transports,
            authority=site.authority,
        )
        for number, transports in enumerate([("websocket",), ("polling",), ("polling", "websocket")] * 2)
    ]
    for client in clients:
        client.join(ROOM)
    path = "/{teamspace}/{project}/{model}/settings".format(**ROOM)
    for number in range(4):
        headers = {"X-Claimed-Address": f"198.51.100.{number}"}
        http.patch(url + path, json={"n": number}, headers=headers, timeout=SECONDS).raise_for_status()
    for client in clients:
        heard = [client.hear_event("containerSettingsUpdate")["data"]["n"] for _ in range(4)]
        assert sorted(heard) == [0, 1, 2, 3]


def test_config_js_names_the_public_address(site: Site) -> None:
    script = requests.get(site.front.url + "/config/config.js", verify=site.authority, timeout=SECONDS).text
    assert "https:\\u002F\\u002Fchat.example.org" in script


def test_a_client_cannot_pretend_a_prefix(site: Site) -> None:
    headers = {"X-Forwarded-Prefix": "/elsewhere"}
    script = requests.get(site.front.url + "/config/config.js", headers=headers, verify=site.authority, timeout=SECONDS)
    assert "elsewhere" not in script.text


def test_every_file_that_the_page_names_is_there() -> None:
    text = DEPLOYING.read_text()
    linked = re.findall(r"\]\((\.\./deploy[^)#]*)\)", text)
    assert len(linked) > 8
    for path in [*linked, *("../" + found for found in re.findall(r"(?<![\w/.])deploy/[\w./@-]+\w", text))]:
        assert (DEPLOYING.parent / path).exists(), path
