"""What the documentation shows, ready to run: only addresses, certificates and the logs' folder are ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.support.service import ROOT

DEPLOYING = ROOT / "docs" / "deploying.md"
# The tests' clients come from one address; nginx spreads them by those that they claim.
CLAIMED_ADDRESSES = "set_real_ip_from 127.0.0.1; real_ip_header X-Claimed-Address;"


def code_blocks(page: Path, language: str) -> list[str]:
    """Return the page's blocks of code in that language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def documented_nginx(folder: Path, certificate: Path | None, port: int, workers: Sequence[int]) -> str:
    """Return the documented content of nginx's `http` block, which listens on `port` and logs into `folder`.

    Without a certificate there is no TLS.
    """
    (block,) = code_blocks(DEPLOYING, "nginx")
    ours = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port}{' ssl' if certificate else ''};",
        "127.0.0.1:3001": f"127.0.0.1:{workers[0]}",
        "127.0.0.1:3002": f"127.0.0.1:{workers[1]}",
        "server_name chat.example.org;": "server_name localhost;",
        "/etc/letsencrypt/live/chat.example.org/fullchain.pem": str(certificate),
        "/etc/letsencrypt/live/chat.example.org/privkey.pem": str(certificate),
        "/var/log/nginx/chat.log": f"{folder}/chat.log",
        "/var/log/nginx/chat-error.log": f"{folder}/chat-error.log",
    }
    for shown, own in ours.items():
        assert block.count(shown) == 1, f"the documented nginx block should have {shown!r} once"
        block = block.replace(shown, own)
    if certificate is None:
        block = re.sub(r" *ssl_certificate.*\n", "", block)
    return f"{CLAIMED_ADDRESSES}\n{block}"
