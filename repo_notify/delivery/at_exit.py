"""Calls at the end of a process, whoever ends it in an orderly way."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from typing import Any

# Their child processes end without `atexit`; both run finalizers of this one form.
_FINALIZERS = ("multiprocessing.util", "billiard.util")
# They run those of a higher number first, and none of them below zero.
_PRIORITY = 100
# Celery's workers end without either, and send a signal of its own.
_CELERY = "celery.signals"


def at_exit(call: Callable[[], None]) -> Callable[[], None]:
    """Have `call` made at the end of this process, perhaps more than once; return what forgets it."""
    atexit.register(call)
    modules = [sys.modules[name] for name in _FINALIZERS if name in sys.modules]
    finalizers = [module.Finalize(None, call, exitpriority=_PRIORITY) for module in modules]
    signal: Any = getattr(sys.modules.get(_CELERY), "worker_process_shutdown", None)

    def on_shutdown(**_: object) -> None:
        call()

    if signal is not None:
        signal.connect(on_shutdown, weak=False)

    def forget() -> None:
        atexit.unregister(call)
        for finalizer in finalizers:
            finalizer.cancel()
        if signal is not None:
            signal.disconnect(on_shutdown)

    return forget
