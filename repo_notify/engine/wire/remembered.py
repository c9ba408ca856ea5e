"""Remembering what a pure function makes of a few short strings that many ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def remembered(length: int, entries: int = 1024) -> Callable[[F], F]:
    """Have a function's last `entries` results remembered where its arguments are strings or None.

    Those that are longer than `length` characters together are not kept: nobody fills the memory by asking.
    """

    def remember(function: F) -> F:
        known = lru_cache(entries)(function)

        @wraps(function)
        def ask(*arguments: Any) -> Any:
            size = 0
            for argument in arguments:
                if type(argument) is str:
                    size += len(argument)
                elif argument is not None:
                    return function(*arguments)
            return known(*arguments) if size <= length else function(*arguments)

        return cast("F", ask)

    return remember
