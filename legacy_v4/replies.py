"""v4's own replies, which come before v5's (spec section 4)."""

from __future__ import annotations

from collections.abc import Sequence

from repo_notify.errors import ChatError
from repo_notify.protocol.dialect import JoinRequest, Reply, failure, success

_ECHOED = ("account", "model")


def entered(request: JoinRequest) -> Sequence[Reply]:
    """Return `joined` and the `message` for a join, the `message` alone for a leave."""
    if request.action != "join":
        return success(request)
    return Reply("joined", {key: request.data[key] for key in _ECHOED if key in request.data}), *success(request)


def denied(request: JoinRequest, error: ChatError) -> Sequence[Reply]:
    """Return `credentialError` and the `error`."""
    return Reply("credentialError", error.reply()), *failure(request, error)
