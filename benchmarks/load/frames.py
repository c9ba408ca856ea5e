"""WebSocket frames (RFC 6455 section 5.2): those of a client, prebuilt, and those that a server sent, taken apart."""

from __future__ import annotations

import json

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


def event_frame(name: str, data: object) -> bytes:
    """Return the frame of a Socket.IO event with one argument, in the default namespace."""
    return masked(b"42" + json.dumps([name, data], separators=(",", ":")).encode())


def take_frames(received: bytearray) -> list[tuple[int, bytes]]:
    """Remove the complete frames from the front of what a server has sent; return opcode and payload of each.

    A server masks nothing, and the peers send each message in one frame.
    """
    frames = []
    start, end = 0, len(received)
    while end - start >= 2:
        size, body = received[start + 1], start + 2
        if size >= 126:
            extended = 2 if size == 126 else 8
            size, body = int.from_bytes(received[body : body + extended], "big"), body + extended
        # Where a part of the length itself is missing, `size` is not the size, and `body` is beyond the end.
        if body > end or body + size > end:
            break
        frames.append((received[start] & 0xF, bytes(received[body : body + size])))
        start = body + size
    del received[:start]
    return frames


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
