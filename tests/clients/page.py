"""A small page in a real browser with a client's own browser build, driven like the other clients."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from selenium import webdriver

from tests.clients.harness import DRIVER, ClientError, JsSocket, Log, Report, restore_bytes
from tests.support.until import until

PAGE = Path(__file__).with_name("page.html")


@contextmanager
def serve_page(client: Path) -> Iterator[str]:
    """Serve the page with that build of the client, from an origin of its own; yields the origin."""
    files = {
        "/": (PAGE, "text/html"),
        "/socket.io.js": (client, "text/javascript"),
        "/driver.js": (DRIVER, "text/javascript"),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = files.get(self.path)
            self.send_response(200 if found else 404)
            if found:
                self.send_header("Content-Type", found[1])
            self.end_headers()
            if found:
                self.wfile.write(found[0].read_bytes())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class PageClients:
    """As `Clients`, in a browser's page; the session cookie is the browser's."""

    def __init__(self, driver: webdriver.Chrome, origin: str) -> None:
        self._driver = driver
        self._numbers = itertools.count(1)
        self._logs: dict[str, Log] = {}
        driver.get(origin)

    def connect(
        self,
        url: str,
        *,
        client: str,
        transports: Sequence[str],
        headers: Mapping[str, str] | None,
        reconnection: bool,
        options: Mapping[str, Any],
        wait: bool,
    ) -> JsSocket:
        """Open a socket; the Cookie header becomes the browser's only cookie."""
        self._driver.delete_all_cookies()
        if headers is not None:
            name, _, value = headers["Cookie"].partition("=")
            self._driver.add_cookie({"name": name, "value": value})
        socket = JsSocket(self, f"{client}#{next(self._numbers)}")
        opts = {"path": "/chat", "transports": list(transports), "reconnection": reconnection, **options}
        self.command(op="connect", id=socket.name, client=client, url=url, opts=opts)
        if wait:
            socket.wait_connected()
        return socket

    def command(self, **command: Any) -> None:
        """Send one command of driver.js."""
        self._driver.execute_script("page.execute(arguments[0])", json.dumps(command))

    def next_ack(self) -> int:
        """A number that no acknowledgement of this page has had."""
        return next(self._numbers)

    def lines_of(self, name: str) -> list[Mapping[str, Any]]:
        """Everything the driver reported of one socket, oldest first."""
        for text in self._driver.execute_script("return page.lines.splice(0)"):
            line = json.loads(text, object_pairs_hook=restore_bytes)
            if line["kind"] == "refused":
                raise ClientError(f"the driver refused: {line['message']}")
            self._log(line["id"]).reports.append(Report(line))
        return [report.line for report in self._log(name).reports]

    def take(
        self, name: str, what: str, matches: Callable[[Mapping[str, Any]], bool], timeout: float
    ) -> Mapping[str, Any]:
        """Wait for a report about the socket `name` that matches, and take it."""
        found: list[Mapping[str, Any]] = []

        def taken() -> bool:
            self.lines_of(name)
            line = self._log(name).take(matches)
            found.extend([] if line is None else [line])
            return bool(found)

        until(taken, lambda: f"no {what} at {name}; it got {self.lines_of(name)}", timeout)
        return found[0]

    def _log(self, name: str) -> Log:
        return self._logs.setdefault(name, Log())
