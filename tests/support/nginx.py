"""An nginx of the tests' own, on a free loopback port."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.brokers import binary
from tests.support.served import SECONDS, Served
from tests.support.until import until

FRAME = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
{http}
}}
"""


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def nginx(folder: Path, http: str, url: str, connections: int = 1024) -> Iterator[Served]:
    """Run an nginx with that content of its `http` block; `url` is where it then answers.

    A client that is passed on takes two of its `connections`.
    """
    config = folder / "nginx.conf"
    config.write_text(FRAME.format(folder=folder, http=http, connections=connections))
    command = [binary("nginx", "/usr/sbin/nginx"), "-p", str(folder), "-e", "stderr", "-c", str(config)]
    with subprocess.Popen(command, text=True) as process:
        try:
            served = Served(url, process)
            until(lambda: _listens(served.port) or process.poll() is not None)
            assert process.poll() is None, "nginx did not start"
            yield served
        finally:
            process.terminate()
            process.wait(SECONDS)
