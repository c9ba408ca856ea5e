"""A clock that jumps, as when somebody sets the machine's; `install()` comes before the imports it is for.

Python's own `time.time`, `time_ns` and `datetime.now` alone: the system's clock belongs to everybody.
"""

from __future__ import annotations

import datetime
import time
from datetime import datetime as _datetime
from typing import Any

_time, _time_ns = time.time, time.time_ns
# By how many seconds the clock is ahead of the machine's.
_ahead = [0.0]


def jump(seconds: float) -> None:
    """Have the clock be so many seconds ahead of the machine's."""
    _ahead[0] = seconds


class _AnyDatetime(type):
    def __instancecheck__(cls, found: object) -> bool:
        return isinstance(found, _datetime)


class _Jumping(_datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _datetime.now(tz) + datetime.timedelta(seconds=_ahead[0])


def install() -> None:
    """Put the clock in the place of Python's."""
    time.time = lambda: _time() + _ahead[0]
    time.time_ns = lambda: _time_ns() + round(_ahead[0] * 1e9)
    datetime.datetime = _Jumping  # type: ignore[misc]  # a class in the place of another is what is meant
