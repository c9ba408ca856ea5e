"""WebSocket frames as a client sends them (RFC 6455 section 5.2), prebuilt."""

from __future__ import annotations

FIN = 0x80
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
MASK_KEY = b"\x37\xfa\x21\x3d"


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one final masked frame; one key for all, as nobody here needs the mask's protection."""
    size = len(payload)
    if size < 126:
        header = bytes([FIN | opcode, 0x80 | size])
    elif size < 1 << 16:
        header = bytes([FIN | opcode, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        header = bytes([FIN | opcode, 0x80 | 127]) + size.to_bytes(8, "big")
    stretched = (MASK_KEY * (size // 4 + 1))[:size]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")
    return header + MASK_KEY + body.to_bytes(size, "big")


def upgrade_request(host: str, port: int, path: str, cookie: str) -> bytes:
    """Return the handshake of an Engine.IO 4 client that speaks WebSocket from the start, with a session cookie."""
    lines = (
        f"GET {path}/?EIO=4&transport=websocket HTTP/1.1",
        f"Host: {host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Cookie: {cookie}",
    )
    return "\r\n".join((*lines, "", "")).encode()
