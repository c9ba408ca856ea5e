"""Everything that exists only for v4 frontends: their rooms, event names, namespace, replies and wire.

`repo_notify` runs without this package: `wiring` loads it while REPO_NOTIFY_LEGACY_V4 is on.
"""

from __future__ import annotations

from collections.abc import Sequence

from repo_notify.errors import ChatError
from repo_notify.protocol.dialect import JoinRequest, Reply

from . import names as _names
from . import replies, rooms
from .codec import EngineIO3

__all__ = ["V4"]


class V4:
    """The v4 dialect: `namespace` is the one of its own, `names` says which sets of event names are sent.

    `jsonp`: whether its clients may poll by scripts.
    """

    shapes = rooms.SHAPES
    kinds = rooms.KINDS

    def __init__(self, *, namespace: str, names: str, jsonp: bool = False) -> None:
        self.namespaces = (namespace,)
        self.rows = _names.rows(names)
        self.codecs = (EngineIO3(jsonp=jsonp),)

    def entered(self, request: JoinRequest) -> Sequence[Reply]:
        """Return the replies to a success."""
        return replies.entered(request)

    def denied(self, request: JoinRequest, error: ChatError) -> Sequence[Reply]:
        """Return the replies to a failure."""
        return replies.denied(request, error)
