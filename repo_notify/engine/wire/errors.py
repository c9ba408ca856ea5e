"""What can go wrong on the wire. Both leaves are the peer's fault and carry what the peer is told.

EngineError
├── ProtocolError    a packet or payload that the protocol documents do not allow: the connection ends
└── RequestError     an HTTP request that cannot be served: answered with its status, code and message
"""

from __future__ import annotations

from enum import IntEnum


class EngineError(Exception):
    """Base of what a peer can do wrong."""


class ProtocolError(EngineError):
    """Something arrived that the protocol does not allow; `problem` says what, without repeating the payload."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class ErrorCode(IntEnum):
    """The codes of the reference server's HTTP error bodies."""

    UNKNOWN_TRANSPORT = 0
    UNKNOWN_SID = 1
    BAD_HANDSHAKE_METHOD = 2
    BAD_REQUEST = 3
    FORBIDDEN = 4
    UNSUPPORTED_PROTOCOL_VERSION = 5


MESSAGES = {
    ErrorCode.UNKNOWN_TRANSPORT: "Transport unknown",
    ErrorCode.UNKNOWN_SID: "Session ID unknown",
    ErrorCode.BAD_HANDSHAKE_METHOD: "Bad handshake method",
    ErrorCode.BAD_REQUEST: "Bad request",
    ErrorCode.FORBIDDEN: "Forbidden",
    ErrorCode.UNSUPPORTED_PROTOCOL_VERSION: "Unsupported protocol version",
}


class RequestError(EngineError):
    """An HTTP request that cannot be served: `status`, and a body of `code` and `message` (default: the code's own)."""

    def __init__(self, code: ErrorCode, message: str | None = None, *, status: int = 400) -> None:
        self.code = code
        self.message = message if message is not None else MESSAGES[code]
        self.status = status
        super().__init__(self.message)
