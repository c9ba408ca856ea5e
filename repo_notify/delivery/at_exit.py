"""Calls at the end of a process, whoever ends it in an orderly way."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable

# Their child processes, such as Celery's, end without `atexit`; both run finalizers of this one form.
_FINALIZERS = ("multiprocessing.util", "billiard.util")
# They run those of a higher number first, and none of them below zero.
_PRIORITY = 100


def at_exit(call: Callable[[], None]) -> Callable[[], None]:
    """Have `call` made at the end of this process, perhaps more than once; return what forgets it."""
    atexit.register(call)
    modules = [sys.modules[name] for name in _FINALIZERS if name in sys.modules]
    finalizers = [module.Finalize(None, call, exitpriority=_PRIORITY) for module in modules]

    def forget() -> None:
        atexit.unregister(call)
        for finalizer in finalizers:
            finalizer.cancel()

    return forget
