"""Everything that exists only for v4 frontends: their rooms, event names, namespace and wire.

`repo_notify` runs without this package; `extension.init_app` imports it while REPO_NOTIFY_LEGACY_V4 is on.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from .codec import EngineIO3
from .names import v4_deliveries
from .rooms import V4_MEMBERSHIPS, V4_ROOMS

if TYPE_CHECKING:
    from repo_notify.extension import Wiring
    from repo_notify.settings import Settings

__all__ = ["extend"]


def extend(wiring: Wiring, settings: Settings) -> Wiring:
    """Add v4 to how an app is served (PROTOCOL section 4)."""
    namespace = settings.legacy_v4_namespace
    return replace(
        wiring,
        namespaces=tuple(dict.fromkeys((*wiring.namespaces, namespace))),
        kinds=(*V4_ROOMS, *wiring.kinds),
        memberships=(*wiring.memberships, *V4_MEMBERSHIPS.items()),
        deliveries=(*wiring.deliveries, partial(v4_deliveries, settings.legacy_v4_names)),
        codecs=(*wiring.codecs, EngineIO3(jsonp=settings.jsonp)),
        legacy_namespaces=frozenset({namespace} - set(wiring.namespaces)),
    )
