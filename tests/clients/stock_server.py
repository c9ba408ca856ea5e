"""A stock python-socketio server in a process of its own: what the harness is tested against.

Prints its port. Echoes every event to its sender and acknowledges it with its arguments; `ask` makes the server ask
for an acknowledgement and report it as `answered`. The namespace `/private` refuses everybody.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import socketio
from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler


def make_server() -> socketio.Server:
    """The server with its handlers."""
    server = socketio.Server(async_mode="gevent", namespaces="*")

    def connect(sid: str, environ: dict[str, str]) -> None:
        server.emit("hello", {"cookie": environ.get("HTTP_COOKIE"), "query": environ["QUERY_STRING"]}, to=sid)

    def refuse(sid: str, environ: dict[str, str]) -> None:
        raise socketio.exceptions.ConnectionRefusedError("not for you")

    def echo(event: str, sid: str, *args: object) -> list[object]:
        server.emit(event, args, to=sid)
        return list(args)

    def ask(sid: str, question: object) -> None:
        server.emit("question", question, to=sid, callback=lambda *args: server.emit("answered", args, to=sid))

    def bye(sid: str) -> None:
        server.disconnect(sid)

    server.on("connect", connect)
    server.on("connect", refuse, namespace="/private")
    server.on("ask", ask)
    server.on("bye", bye)
    server.on("*", echo)
    return server


def main() -> None:
    """Serve on a free loopback port until the process is ended."""
    app = socketio.WSGIApp(make_server(), socketio_path="chat")
    http = WSGIServer(("127.0.0.1", 0), app, handler_class=WebSocketHandler, log=None)
    http.start()
    print(http.server_port, flush=True)
    http.serve_forever()


if __name__ == "__main__":
    main()
