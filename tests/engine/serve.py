"""A server for the engine's tests, in a process of its own: `python -m tests.engine.serve <async mode> <Server's arguments as JSON>`.

Prints its port. `GET /state` tells what is alive; `POST /emit` and `POST /shutdown` act from outside of any connection.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from repo_notify.engine import Server

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
ORIGIN = "http://friend.example"


def build(mode: str, options: dict[str, Any]) -> Server:
    options.setdefault("cors_allowed_origins", [ORIGIN])
    server = Server(async_mode=mode, namespaces=["/named"], **options)

    @server.on("connect")
    def connect(sid: str, environ: dict[str, Any], auth: Any) -> bool | None:
        server.emit("auth", auth or {}, to=sid)
        if auth and auth.get("refuse"):
            return False
        if auth and auth.get("crash"):
            raise RuntimeError("connect")
        return None

    @server.on("connect", namespace="/custom")
    def connect_custom(sid: str, environ: dict[str, Any]) -> None:
        server.emit("auth", {}, to=sid, namespace="/custom")

    @server.on("connect", namespace="/refusing")
    def connect_refusing(sid: str, environ: dict[str, Any]) -> None:
        raise ConnectionRefusedError

    @server.on("connect", namespace="/explaining")
    def connect_explaining(sid: str, environ: dict[str, Any]) -> None:
        from socketio.exceptions import ConnectionRefusedError as Refused

        raise Refused("no", {"why": 1})

    def on_everywhere(name: str, handler: Callable[..., Any]) -> None:
        server.on(name, handler)
        server.on(name, lambda sid, *args: handler(sid, *args, namespace="/custom"), namespace="/custom")

    def message(sid: str, *args: Any, namespace: str = "/") -> None:
        server.emit("message-back", args, to=sid, namespace=namespace)

    def message_with_ack(sid: str, *args: Any, namespace: str = "/") -> tuple[Any, ...]:
        return args

    def ask(sid: str, *args: Any, namespace: str = "/") -> None:
        server.emit("asked", server.call("question", args, to=sid, namespace=namespace, timeout=5), to=sid, namespace=namespace)

    def join(sid: str, room: str, namespace: str = "/") -> bool:
        server.enter_room(sid, room, namespace)
        return True

    def slow(sid: str, seconds: float, tag: Any, namespace: str = "/") -> Any:
        server.sleep(seconds)
        return tag

    def kick(sid: str, namespace: str = "/") -> None:
        server.disconnect(sid, namespace)

    def crash(sid: str, *args: Any, namespace: str = "/") -> None:
        raise RuntimeError("handler")

    on_everywhere("message", message)
    on_everywhere("message-with-ack", message_with_ack)
    on_everywhere("ask", ask)
    on_everywhere("join", join)
    on_everywhere("slow", slow)
    on_everywhere("kick", kick)
    on_everywhere("crash", crash)
    return server


class App:
    """Routes between the engine and the tests' own paths."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.log: list[list[str]] = []
        server.on_open.append(lambda sid, environ: self.log.append(["open", sid]))
        server.on_close.append(lambda sid, reason: self.log.append(["close", sid, reason]))

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        own = {"/state": self.state, "/emit": self.emit, "/shutdown": self.shutdown, "/gone": self.log_of}
        handler = own.get(environ["PATH_INFO"])
        if handler is None:
            return self.server.handle_request(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.dumps(handler(json.loads(environ["wsgi.input"].read(length) or b"{}"))).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    def state(self, _: Any) -> dict[str, Any]:
        tasks = threading.active_count()
        if self.server.async_mode == "gevent":
            import gevent

            gc.collect()
            tasks = sum(isinstance(found, gevent.Greenlet) and not found.dead for found in gc.get_objects())
        eio = self.server.eio
        return {
            "connections": len(eio.sockets),
            "counts": {f"{number} {transport}": count for (number, transport), count in eio.counts().items()},
            "namespaces": self.server.manager.get_namespaces(),
            "rooms": self.server.manager.count_rooms(),
            "environs": len(self.server.environ),
            "tasks": tasks,
        }

    def log_of(self, arguments: dict[str, Any]) -> list[list[str]]:
        return [entry for entry in self.log if entry[1] == arguments["sid"]]

    def emit(self, arguments: dict[str, Any]) -> int:
        if arguments.pop("binary", False):
            arguments["data"] = arguments["data"].encode()
        return self.server.manager.deliver(**arguments)

    def shutdown(self, _: Any) -> None:
        self.server.shutdown(1)


def main(mode: str, options: dict[str, Any], handler: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    app = App(build(mode, options))
    if mode == "gevent":
        from gevent.pywsgi import WSGIServer
        from geventwebsocket.handler import WebSocketHandler as Stock

        from repo_notify.engine.websocket import WebSocketHandler

        server = WSGIServer(("127.0.0.1", 0), app, handler_class=WebSocketHandler if handler == "ours" else Stock, log=None)
        server.start()
        print(server.server_port, flush=True)
        server.serve_forever()
    else:
        from werkzeug.serving import WSGIRequestHandler, make_server

        WSGIRequestHandler.protocol_version = "HTTP/1.1"
        threaded = make_server("127.0.0.1", 0, app, threaded=True)
        threaded.daemon_threads = True
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        print(threaded.server_port, flush=True)
        threaded.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3])
