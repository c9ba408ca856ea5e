"""Clients of the served demo app: one for HTTP, one for Socket.IO; and the paths of the sample models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from typing import Any

from repo_notify.demo.seed import BRIDGE, DECK, PLAN, STRUCTURE, TOWER, WHOLE
from tests.support.chat import ChatClient

COOKIE = "connect.sid"
SECONDS = 30.0

Document = dict[str, Any]
Listen = Callable[["Client"], ChatClient]


@dataclass(frozen=True)
class Answer:
    """What the server answered; `json` is None where the body was none."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Client:
    """A browser in small: keeps cookies, speaks JSON."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send `body` as JSON (bytes as they are) and return the answer; header names have `_` for `-`."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookies:
            sent["Cookie"] = self.cookie
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()
        for morsel in SimpleCookie(answer.headers.get("set-cookie", "")).values():
            if morsel.value:
                self.cookies[morsel.key] = morsel.value
            else:
                self.cookies.pop(morsel.key, None)
        return answer

    @property
    def cookie(self) -> str:
        """The Cookie header of this browser."""
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def log_in(self, user: str, **headers: str) -> Client:
        """Log in as a sample user and return this client."""
        answer = self.call("POST", "/v5/login", {"user": user, "password": "demo"}, **headers)
        assert (answer.status, answer.json) == (200, {"username": user})
        return self


def join(chat: ChatClient, **room: object) -> None:
    """Join a room and wait for the word that it is done."""
    chat.socket.emit("join", room)
    assert hear_until(chat, "message") == {"event": "success", "data": {"action": "join", "data": room}}


def hear_next(chat: ChatClient) -> tuple[str, Any]:
    """Return the next event's name and payload."""
    name, payload = chat.hear()
    return name, payload[0]


def hear_until(chat: ChatClient, name: str) -> Any:
    """Return the payload of the next event of that name, and drop those before it."""
    while True:
        found, payload = hear_next(chat)
        if found == name:
            return payload


def model_path(kind: str, model: str, project: str = TOWER) -> str:
    """The v5 path of a model."""
    return f"/v5/teamspaces/acme/projects/{project}/{kind}/{model}"


STRUCTURE_PATH = model_path("containers", STRUCTURE)
WHOLE_PATH = model_path("federations", WHOLE)
PLAN_PATH = model_path("drawings", PLAN)
DECK_PATH = model_path("containers", DECK, BRIDGE)
