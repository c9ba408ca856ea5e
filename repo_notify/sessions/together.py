"""Reads of single keys that arrive together, carried out together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Generic, TypeVar

from repo_notify.bounded import TooSlow

K = TypeVar("K")
V = TypeVar("V")

# So many keys are read in one go.
MAX_TOGETHER = 1_000
# Not longer than a turn of the loop, in which more may come.
TURN_SECONDS = 1e-6


class ReadFailed(Exception):
    """The read in which others shared has failed; the text says of what."""


class _Batch(Generic[K, V]):
    """Keys that are read together, those who wait for them, and what became of that."""

    def __init__(self, lock: threading.Lock) -> None:
        self.keys: set[K] = set()
        self.waiting = 0
        self.changed = threading.Condition(lock)
        self.found: Mapping[K, V] | None = None
        # Makes what is raised: each reader raises one of its own, as a traceback grows by whoever raises it.
        self.failure: Callable[[], Exception] | None = None

    @property
    def is_over(self) -> bool:
        return self.found is not None or self.failure is not None


class Together(Generic[K, V]):
    """Reads keys by `read(keys)`, one call at a time; it returns what it found.

    Who comes while no read is under way begins one, with those who come in the same turn of the loop. Those who come
    meanwhile share the next one, which begins when that has ended. `read` is bounded in time, and where it raises
    `TooSlow` all who wait are told so: a store that hangs is not asked by one after another. Where whoever reads is
    killed, another of its batch reads for the rest.
    """

    def __init__(self, read: Callable[[Collection[K]], Mapping[K, V]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._reading = False
        # Those of which no read is under way, oldest first; somebody waits for each.
        self._batches: deque[_Batch[K, V]] = deque()

    def __call__(self, key: K) -> V | None:
        """Return what is found under `key`, None where nothing is; raises `ReadFailed` or `TooSlow`."""
        with self._lock:
            batch = self._batch_for(key)
            mine = self._wait(batch)
        if mine:
            self._carry_out(batch)
        if batch.failure is not None:
            raise batch.failure()
        assert batch.found is not None
        return batch.found.get(key)

    def _batch_for(self, key: K) -> _Batch[K, V]:
        if not self._batches or len(self._batches[-1].keys) >= MAX_TOGETHER:
            self._batches.append(_Batch(self._lock))
        batch = self._batches[-1]
        batch.keys.add(key)
        return batch

    def _wait(self, batch: _Batch[K, V]) -> bool:
        """Wait until the batch is over, or nobody reads; return whether it is now the caller's to read."""
        batch.waiting += 1
        mine = False
        try:
            if not self._reading:
                batch.changed.wait(TURN_SECONDS)
            while self._reading and not batch.is_over:
                batch.changed.wait()
            if mine := not batch.is_over:
                self._reading = True
                self._batches.remove(batch)
        finally:
            batch.waiting -= 1
            # Thrown out, perhaps just when it had been woken in order to read.
            if not mine and not batch.is_over:
                if not batch.waiting and batch in self._batches:
                    self._batches.remove(batch)
                self._wake_next()
        return mine

    def _wake_next(self) -> None:
        """Have somebody read for the oldest batch: each of those who wait is able to."""
        if not self._reading and self._batches:
            self._batches[0].changed.notify()

    def _carry_out(self, batch: _Batch[K, V]) -> None:
        try:
            batch.found = self._read(batch.keys)
        except TooSlow as error:
            self._fail_all(batch, partial(TooSlow, str(error)))
        except Exception as error:  # noqa: BLE001 - it is raised by each of those who wait for it
            batch.failure = partial(ReadFailed, f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._reading = False
                if batch.is_over:
                    batch.changed.notify_all()
                elif batch.waiting:
                    self._batches.appendleft(batch)
                self._wake_next()

    def _fail_all(self, batch: _Batch[K, V], failure: Callable[[], Exception]) -> None:
        with self._lock:
            for each in (batch, *self._batches):
                each.failure = failure
                each.changed.notify_all()
            self._batches.clear()
