"""A forged `Host` must not get into `config.js`, which caches may keep for everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.support.served import SECONDS, Served

FORGED = {"Host": "elsewhere.example"}
PROXY = {"X-Forwarded-Host": "chat.example.org", "X-Forwarded-Proto": "https"}
ON_PORT_80 = {**PROXY, "X-Forwarded-Host": "chat.example.org:80"}
NAMED = "\\u002F\\u002Fchat.example.org"


@pytest.mark.parametrize(
    ("config", "headers", "names"),
    [
        ({}, {}, "\\u002F\\u002F127.0.0.1:"),
        ({}, {"Host": "localhost:1"}, "\\u002F\\u002Flocalhost:1"),
        ({}, FORGED, "currentScript"),
        ({}, PROXY, "\\u002F\\u002F127.0.0.1:"),
        ({"REPO_NOTIFY_TRUSTED_PROXIES": 1}, PROXY, f'"https:{NAMED}"'),
        ({"REPO_NOTIFY_TRUSTED_PROXIES": 1}, ON_PORT_80, f'"https:{NAMED}:80"'),
        ({"REPO_NOTIFY_TRUSTED_PROXIES": 1}, FORGED, "currentScript"),
        ({"SERVER_NAME": "chat.example.org"}, {"Host": "chat.example.org"}, f'"http:{NAMED}"'),
        ({"REPO_NOTIFY_CHAT_HOST": "https://chat.example.org:1"}, FORGED, NAMED),
    ],
)
def test_who_is_named(serve_host: Callable[..., Served], config: dict[str, Any], headers: Any, names: str) -> None:
    answer = requests.get(serve_host(**config).url + "/config/config.js", headers=headers, timeout=SECONDS)
    assert names in answer.text
    assert "elsewhere.example" not in answer.text
    configured = "REPO_NOTIFY_CHAT_HOST" in config
    assert answer.headers["Cache-Control"] == ("no-cache" if configured else "no-store")
    assert ("Host" in answer.headers.get("Vary", "")) != configured
