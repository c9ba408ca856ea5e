"""Remembering what a pure function makes of a few short strings that many ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class _NotKept(Exception):
    """A result that is not remembered: `lru_cache` keeps nothing of a call that raises."""

    def __init__(self, result: Any) -> None:
        self.result = result


def remembered(length: int, entries: int = 1024) -> Callable[[F], F]:
    """Have a function's last `entries` results remembered where its arguments are strings, types or None.

    Those that are longer than `length` characters together are not kept: nobody fills the memory by asking.
    """

    def remember(function: F) -> F:
        @lru_cache(entries)
        def known(*arguments: Any) -> Any:
            result = function(*arguments)
            if not _are_short(arguments, length):
                raise _NotKept(result)
            return result

        @wraps(function)
        def ask(*arguments: Any) -> Any:
            try:
                return known(*arguments)
            except _NotKept as found:
                return found.result
            # A list or an object among them, or the function's own.
            except TypeError:
                return function(*arguments)

        return cast("F", ask)

    return remember


def _are_short(arguments: tuple[Any, ...], length: int) -> bool:
    strings = [argument for argument in arguments if type(argument) is str]
    others = {type(argument) for argument in arguments if argument is not None} - {str, type}
    return not others and sum(map(len, strings)) <= length
