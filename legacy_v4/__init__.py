"""Everything that exists only for v4 frontends: their rooms, event names, namespace, replies and wire.

`repo_notify` runs without this package: `wiring` loads it while REPO_NOTIFY_LEGACY_V4 is on.
"""

from __future__ import annotations

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
    addressed = rooms.ADDRESSED
    entered = staticmethod(replies.entered)
    denied = staticmethod(replies.denied)

    def __init__(self, *, namespace: str, names: str, jsonp: bool = False) -> None:
        self.namespaces = (namespace,)
        self.rows = _names.rows(names)
        self.codecs = (EngineIO3(jsonp=jsonp),)
