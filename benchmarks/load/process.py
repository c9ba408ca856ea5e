"""A load process and how it is told what to do: calls of its audience's methods, through a pipe."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from benchmarks.load.audience import Audience, LoadError
from benchmarks.process import raise_open_files

P = ParamSpec("P")
T = TypeVar("T")
STOP_SECONDS = 10.0


class Pending(Generic[T]):
    """What a load process is still doing."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def result(self) -> T:
        """Wait for it; raises `LoadError` when it went wrong."""
        try:
            result, error = self._pipe.recv()
        except EOFError:
            raise LoadError("a load process has died") from None
        if error is not None:
            raise LoadError(error)
        found: T = result
        return found


class LoadProcess:
    """An `Audience` in a process of its own; a context manager. One call at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_obey, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def start(self, method: Callable[Concatenate[Audience, P], T], *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        """Have a method of the audience called, and go on."""
        self._pipe.send((method, True, args, kwargs))
        return Pending(self._pipe)

    def call(self, method: Callable[Concatenate[Audience, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have a method of the audience called, and wait for what it returns; raises `LoadError`."""
        return self.start(method, *args, **kwargs).result()

    def begin(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        """Have a function called in the load process, and go on."""
        self._pipe.send((function, False, args, kwargs))
        return Pending(self._pipe)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have a function called in the load process, and wait for what it returns; raises `LoadError`."""
        return self.begin(function, *args, **kwargs).result()

    def __enter__(self) -> LoadProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _obey(pipe: Connection) -> None:
    raise_open_files()
    audience = Audience()
    while True:
        try:
            function, on_audience, args, kwargs = pipe.recv()
        except EOFError:
            return
        answer: tuple[Any, str | None]
        try:
            answer = function(*((audience,) if on_audience else ()), *args, **kwargs), None
        # The other side decides what it means; a traceback of this process would help nobody there.
        except (LoadError, OSError) as error:
            answer = None, f"{type(error).__name__}: {error}"
        pipe.send(answer)
