"""spec section 1: what `config.js` tells a page, evaluated as a page does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.clients.install import Node
from tests.support.served import Served

pytestmark = pytest.mark.clients
HOSTILE = "https://chat.example.org:443/</script><!--\u2028\u2029\"'\\é"


def evaluated(node: Node, script: str) -> Any:
    program = "eval(require('fs').readFileSync(0, 'utf8') + ';console.log(JSON.stringify(ClientConfig))')"
    command = [node.executable, "-e", program]
    run = subprocess.run(command, input=script, capture_output=True, text=True, check=True, env=node.environment())
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"chatHost": "{own}", "chatPath": "/chat"}),
        ({"REPO_NOTIFY_CHAT_PATH": "/a/b</script>"}, {"chatHost": "{own}", "chatPath": "/a/b</script>"}),
        ({"REPO_NOTIFY_CHAT_HOST": HOSTILE}, {"chatHost": HOSTILE, "chatPath": "/chat"}),
    ],
    ids=["default", "path", "host"],
)
def test_config_js_sets_client_config_and_is_safe_inside_a_page(
    node: Node, serve_host: Callable[..., Served], config: dict[str, str], expected: dict[str, str]
) -> None:
    served = serve_host(**config)
    answer = requests.get(served.url + "/config/config.js", timeout=5)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].split(";")[0] == "application/javascript"
    script = answer.content.decode()
    assert not set("/<>\u2028\u2029") & set(script)
    assert "\\u002Fchat" in script or "CHAT_PATH" in "".join(config)
    assert evaluated(node, script) == {key: value.replace("{own}", served.url) for key, value in expected.items()}
