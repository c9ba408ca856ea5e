"""Answers are as long as they say, and say when they are the last: what proxies and agents keep connections by."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import host_defaults
from tests.engine.support import Served as Engine
from tests.support.ports import free_port
from tests.support.served import Served, host_app
from tests.support.service import COMMANDS, command, service, service_environment

from .wire import SECONDS, answer, asked, connect, until_closed

pytestmark = pytest.mark.slow

POLLING = "/chat/?EIO=4&transport=polling"
TARGETS = (
    POLLING, "/chat/?EIO=9&transport=polling", "/notify/healthz", "/notify/metrics", "/nowhere", "/config/config.js",
)
WAYS = ("host", "stock", "wsgi.py", "gunicorn", "gunicorn, stock worker")
# What a client sends, and whether its connection is closed after the answer.
LAST: dict[str, tuple[str, bool]] = {
    "close": ("HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", True),
    "Close": ("HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n", True),
    "several words": ("HTTP/1.1\r\nHost: h\r\nConnection: te, close\r\n\r\n", True),
    "HTTP/1.0": ("HTTP/1.0\r\n\r\n", True),
    "HTTP/1.0, kept": ("HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    "nothing": ("HTTP/1.1\r\nHost: h\r\n\r\n", False),
}


@pytest.fixture(scope="module", params=WAYS)
def served(request: pytest.FixtureRequest, sample: str) -> Iterator[Served]:
    if request.param in COMMANDS:
        port = free_port()
        with service(command(request.param, port), service_environment(sample), port) as found:
            yield found
        return
    stock = {"STOCK_SOCKETIO": {"async_mode": "gevent"}} if request.param == "stock" else {}
    with host_app({**host_defaults(sample), **stock}) as found:
        yield found


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("words", LAST)
def test_the_last_answer_says_so(served: Served, target: str, words: str) -> None:
    rest, last = LAST[words]
    with connect(served.port) as raw:
        raw.sendall(f"GET {target} {rest}".encode())
        found = answer(raw)
        assert found.headers.get("connection", "").lower() == ("close" if last else kept(words))
        if last:
            until_closed(raw, 5.0)


def kept(words: str) -> str:
    return "keep-alive" if words.startswith("HTTP/1.0") else ""


def headed(port: int, target: str) -> tuple[bytes, bytes]:
    """What is answered to HEAD, and behind it to the next request on the connection."""
    with connect(port) as raw:
        raw.sendall(f"HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        raw.sendall(b"GET /notify/healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        head, _, rest = until_closed(raw, 5.0).partition(b"\r\n\r\n")
    return head, rest


@pytest.mark.parametrize("target", TARGETS)
def test_head_is_answered_without_a_body(served: Served, target: str) -> None:
    head, rest = headed(served.port, target)
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n"), rest
    assert b"transfer-encoding" not in head.lower()
    asked_by_get = asked(served.port, f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    told = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    # Another session's handshake is another answer, and the engine takes none by HEAD.
    if told and target.startswith("/c") is False and "metrics" not in target:
        assert int(told[0].partition(b":")[2]) == len(asked_by_get.body)


@pytest.mark.parametrize(
    ("kind", "target"),
    [(kind, target) for kind in ("gevent", "gevent, pywsgi") for target in ("/chat/?EIO=4", "/stream")]
    # What else an application answers there is between it and its server.
    + [("threading", "/chat/?EIO=4")],
)
def test_head_of_what_has_no_length(kind: str, target: str) -> None:
    mode, handler = ("threading", "ours") if kind == "threading" else ("gevent", kind.partition(", ")[2] or "ours")
    served = Engine(mode, handler)
    try:
        with connect(served.port) as raw:
            raw.sendall(f"HEAD {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
            head, _, rest = until_closed(raw, 5.0).partition(b"\r\n\r\n")
        assert rest == b""
        assert (b"content-length" in head.lower()) == (target != "/stream")
        assert b"connection: close" in head.lower()
    finally:
        served.stop()


@pytest.mark.parametrize(("length", "last"), [(0, False), (4_000, False), (100_000, True)])
def test_a_small_body_that_nobody_read_is_passed_over_and_a_large_one_is_the_last(
    sample: str, length: int, last: bool
) -> None:
    with host_app(host_defaults(sample)) as served, connect(served.port) as raw:
        raw.sendall(f"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n".encode())
        # The answer is there before the body, and arrives although the rest is refused.
        found = answer(raw, "POST")
        assert (found.status, found.headers.get("connection")) == (404, "close" if last else None)
        raw.sendall(b"x" * length)
        if last:
            until_closed(raw, 5.0)
        else:
            raw.sendall(b"GET /plain HTTP/1.1\r\nHost: h\r\n\r\n")
            assert answer(raw).status == 200


def test_a_refused_upload_is_answered_before_the_connection_is_closed(sample: str) -> None:
    """Closed at once, the kernel would take the answer back from who is still sending."""
    with host_app(host_defaults(sample)) as served, connect(served.port) as raw:
        raw.sendall(b"POST /notify/events HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000)
        found = answer(raw, "POST")
        assert (found.status, found.headers["connection"]) == (404, "close")
        until_closed(raw, 5.0)


AGENT = """
const http = require("http");
const agent = new http.Agent({keepAlive: true, maxSockets: 1});
const port = Number(process.argv[1]);
const ask = (left) => {
  if (!left) { agent.destroy(); console.log("done"); return; }
  const asked = http.request({port, agent, path: "/notify/healthz", headers: {Connection: "close"}}, (answer) => {
    answer.resume();
    answer.on("end", () => setImmediate(ask, left - 1));
  });
  asked.on("error", (error) => { console.log(error.message); process.exit(1); });
  asked.end();
};
ask(20);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_an_agent_of_nodes_that_asks_to_close_gets_every_answer(served: Served) -> None:
    done = subprocess.run(
        ["node", "-e", AGENT, str(served.port)], capture_output=True, text=True, timeout=SECONDS * 2, check=False
    )
    assert done.stdout.strip() == "done"
