"""A server for the engine's tests, in a process of its own: `python -m tests.engine.serve <mode> <options> <handler>`.

The options are the Server's arguments as JSON. Prints its port. `/state` tells what is alive; `/emit` and `/shutdown`
act from outside of any connection.
"""

from __future__ import annotations

import gc
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import trustme
from socketio.exceptions import ConnectionRefusedError as Refused

from repo_notify.engine import Options, OutboxLimits, Server

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
ORIGIN = "http://friend.example"
# Blocks of 64 KiB in `/stream`: more than the kernel keeps for who reads nothing.
LONG = 200


def make(mode: str, options: dict[str, Any]) -> Server:
    options.setdefault("allowed_origins", [ORIGIN])
    if options["allowed_origins"] == "check":
        options["allowed_origins"] = lambda origin, environ: origin == "http://checked.example"
    options["outbox"] = OutboxLimits(**options.get("outbox", {}))
    hint = options.pop("hint", None)
    if hint is not None:
        options["unsupported_hint"] = lambda eio: f"EIO={eio}: {hint}"
    if options.pop("both_generations", False):
        from legacy_v4.codec import EngineIO3

        options["codecs"] = (EngineIO3(),)
    return Server(Options(async_mode=mode, namespaces=("/named",), **options))


def add_connects(server: Server) -> None:
    """The connect handlers: one per way of taking or refusing."""

    def connect(sid: str, environ: dict[str, Any], auth: Any) -> bool | None:
        server.emit("auth", auth or {}, to=sid)
        if auth and auth.get("crash"):
            raise RuntimeError("connect")
        if auth and auth.get("linger"):
            server.sleep(auth["linger"])
        return False if auth and auth.get("refuse") else None

    def connect_custom(sid: str, environ: dict[str, Any]) -> None:
        server.emit("auth", {}, to=sid, namespace="/custom")

    def connect_refusing(sid: str, environ: dict[str, Any]) -> None:
        raise ConnectionRefusedError

    def connect_explaining(sid: str, environ: dict[str, Any]) -> None:
        raise Refused("no", {"why": 1})

    server.on("connect", connect)
    server.on("connect", connect_custom, namespace="/custom")
    server.on("connect", connect_refusing, namespace="/refusing")
    server.on("connect", connect_explaining, namespace="/explaining")


class Events:
    """The event handlers of one namespace."""

    ROOMS = ("leave", "close_room", "rooms", "who_am_i")

    def __init__(self, server: Server, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        for name in ("message", "message_with_ack", "ask", "join", "slow", "kick", "crash", "tell", *self.ROOMS):
            server.on(name.replace("_", "-"), getattr(self, name), namespace=namespace)

    def emit(self, event: str, data: Any, to: str) -> None:
        self.server.emit(event, data, to=to, namespace=self.namespace)

    def message(self, sid: str, *args: Any) -> None:
        self.emit("message-back", args, sid)

    def message_with_ack(self, sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    def ask(self, sid: str, *args: Any) -> None:
        answer = self.server.call("question", args, to=sid, namespace=self.namespace, timeout=5)
        self.emit("asked", answer, sid)

    def join(self, sid: str, room: str) -> bool:
        self.server.enter_room(sid, room, self.namespace)
        return True

    def leave(self, sid: str, room: str) -> None:
        self.server.leave_room(sid, room, self.namespace)

    def close_room(self, sid: str, room: str) -> None:
        self.server.close_room(room, self.namespace)

    def rooms(self, sid: str) -> Any:
        return self.server.rooms(sid, self.namespace)

    def who_am_i(self, sid: str) -> str:
        return sid

    def tell(self, sid: str, room: str, what: Any) -> None:
        self.emit("told", what, room)

    def slow(self, sid: str, seconds: float, tag: Any) -> Any:
        self.server.sleep(seconds)
        return tag

    def kick(self, sid: str) -> None:
        self.server.disconnect(sid, self.namespace)

    def crash(self, sid: str, *args: Any) -> None:
        raise RuntimeError("handler")


def build(mode: str, options: dict[str, Any]) -> Server:
    server = make(mode, options)
    add_connects(server)
    for namespace in ("/", "/custom"):
        Events(server, namespace)
    return server


class App:
    """Routes between the engine and the tests' own paths."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.log: list[list[str]] = []
        server.on_open.append(lambda sid, environ: self.log.append(["open", sid]))
        server.on_close.append(lambda sid, reason: self.log.append(["close", sid, reason]))

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Any:
        own: dict[str, Callable[[Any], Any]] = {
            "/state": self.state, "/emit": self.emit, "/shutdown": self.shutdown, "/gone": self.log_of,
            "/polls": self.polls, "/whose": self.whose, "/garbage": self.garbage,
            "/timers": lambda _: len(self.server.eio.timers),
            "/waiting": lambda arguments: self.server.waiting(arguments["sid"]),
            "/waiting_all": lambda _: list(map(self.server.waiting, self.server.eio.sockets)),
            "/echo": self.echo,
            "/headers": self.headers,
            "/turn": self.turn,
        }
        if environ["PATH_INFO"].startswith("/environ"):
            own[environ["PATH_INFO"]] = lambda _: {name: value for name, value in environ.items() if type(value) is str}
        if environ["PATH_INFO"] == "/stream":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return iter([b"x" * 65_536] * LONG)
        handler = own.get(environ["PATH_INFO"])
        if handler is None:
            return self.server.handle_request(environ, start_response)
        length = -1 if environ.get("HTTP_TRANSFER_ENCODING") else int(environ.get("CONTENT_LENGTH") or 0)
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
            "rooms": sum(map(len, self.server.manager.rooms.values())),
            "environs": len(self.server.environ),
            "tasks": tasks,
            "waiting": eio.backlogs.total,
            "slow": eio.slow_clients,
        }

    def headers(self, _: Any) -> list[dict[str, str]]:
        """What is kept of the handshakes, the oldest first."""
        return [
            {name: value for name, value in environ.items() if type(value) is str}
            for environ in self.server.environ.values()
        ]

    def echo(self, arguments: dict[str, Any]) -> str:
        return json.dumps(arguments)

    def garbage(self, _: Any) -> int:
        """How many objects the collector finds, which is off from then on."""
        gc.disable()
        return gc.collect()

    def log_of(self, arguments: dict[str, Any]) -> list[list[str]]:
        return [entry for entry in self.log if entry[1] == arguments["sid"]]

    def whose(self, arguments: dict[str, Any]) -> str | None:
        return self.server.connection_of(arguments["sid"])

    def polls(self, arguments: dict[str, Any]) -> bool:
        transport = self.server.eio.sockets[arguments["sid"]].transport
        return bool(getattr(transport, arguments.get("direction", "polling")))

    def emit(self, arguments: dict[str, Any]) -> int:
        if arguments.pop("binary", False):
            arguments["data"] = arguments["data"].encode()
        times = arguments.pop("times", 1)
        return sum(self.server.manager.deliver(**arguments) for _ in range(times))

    def turn(self, arguments: dict[str, Any]) -> list[Any]:
        """Do several things without a pause: `[what, arguments]` of each."""
        steps: dict[str, Callable[..., Any]] = {
            "close_room": self.server.manager.close_room,
            "deliver": self.server.manager.deliver,
            "disconnect": self.server.disconnect,
            "enter_room": self.server.manager.enter_room,
            "leave_room": self.server.manager.leave_room,
        }
        return [steps[name](**told) for name, told in arguments["steps"]]

    def shutdown(self, _: Any) -> None:
        self.server.shutdown(1)


def certified() -> Any:
    """TLS with a certificate made just now, on sockets that gevent waits for."""
    from gevent import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def main(mode: str, options: dict[str, Any], handler: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    app = App(build(mode, options))
    if mode == "gevent":
        from gevent.pywsgi import WSGIServer
        from geventwebsocket.handler import WebSocketHandler as Stock

        from repo_notify.engine.pywsgi.handler import WebSocketHandler
        from repo_notify.engine.pywsgi.server import LazySocketServer

        class Hasty(WebSocketHandler):
            patience = 0.5

        handler_class = {"stock": Stock, **dict.fromkeys(("hasty", "hasty pywsgi", "hasty tls"), Hasty)}.get(
            handler, WebSocketHandler,
        )
        secured = {"ssl_context": certified()} if handler in ("tls", "hasty tls") else {}
        listener = WSGIServer.get_listener(("127.0.0.1", 0), family=socket.AF_INET)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # gevent's own is what hosts and gunicorn have.
        make = WSGIServer if handler in ("stock", "pywsgi", "hasty pywsgi") else LazySocketServer
        server = make(listener, app, handler_class=handler_class, log=None, **secured)
        server.start()
        print(server.server_port, flush=True)
        server.serve_forever()
    else:
        from werkzeug.serving import WSGIRequestHandler, make_server

        WSGIRequestHandler.protocol_version = "HTTP/1.1"
        threaded = make_server("127.0.0.1", 0, app, threaded=True)
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        print(threaded.server_port, flush=True)
        threaded.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3])
