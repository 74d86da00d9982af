"""Batching: crops of simultaneous requests in one run of the network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from verifykit.encoder import Encode
from verifykit.types import Embeddings, Image


@dataclass(eq=False)
class _Call:
    crops: list[Image]
    rows: Embeddings | None = None
    error: Exception | None = None

    @property
    def is_answered(self) -> bool:
        return self.rows is not None or self.error is not None


class Batcher:
    """Wraps an ``Encode`` so that calls of several threads share its runs; ``encode`` is one itself.

    The number of simultaneous runs is limited: calls that arrive meanwhile wait, and share the next run. If
    others have announced a call, the first waits for them up to ``wait_s``. There is no extra thread: a
    caller that finds a free run does the work of all that wait.
    """

    def __init__(
        self,
        encode: Encode,
        size: int,
        *,
        runs: int = 1,
        wait_s: float = 0.0,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        """Wrap a function; a call with more than ``size`` crops has a run of its own.

        ``on_batch`` is called with the number of crops of each run.
        """
        self._encode, self._size, self._wait_s = encode, size, wait_s
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._waiting: list[_Call] = []
        self._coming = 0
        self._free = runs

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Mark a block after which this thread is likely to call :meth:`encode`."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1

    def encode(self, crops: Sequence[Image]) -> Embeddings:
        """Return the rows of these crops, or raise what the wrapped function raises for them alone."""
        call = _Call(list(crops))
        with self._changed:
            self._waiting.append(call)
            self._changed.notify_all()
            while not call.is_answered:
                # Another caller may have this call in its batch already.
                if self._free and call in self._waiting:
                    self._lead()
                else:
                    self._changed.wait()
        if call.error is not None:
            raise call.error
        assert call.rows is not None  # noqa: S101 - answered, and not by an error
        return call.rows

    def _lead(self) -> None:
        self._free -= 1
        try:
            self._await_others()
            batch = self._next_batch()
            self._changed.release()
            try:
                if batch:  # else another took it in that moment
                    self._answer(batch)
            finally:
                self._changed.acquire()
        finally:
            self._free += 1
            self._changed.notify_all()

    def _await_others(self) -> None:
        end = time.monotonic() + self._wait_s
        while self._coming and sum(len(call.crops) for call in self._waiting) < self._size:
            left = end - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _next_batch(self) -> list[_Call]:
        """Remove and return the calls that waited longest: whole ones, as many as fit, at least one."""
        count = total = 0
        for call in self._waiting:
            total += len(call.crops)
            if count and total > self._size:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _answer(self, batch: Sequence[_Call]) -> None:
        crops = [crop for call in batch for crop in call.crops]
        if self._on_batch is not None:
            self._on_batch(len(crops))
        try:
            rows = self._encode(crops)
        except Exception as error:  # noqa: BLE001 - raised again, in the thread of the call it is about
            if len(batch) == 1:
                batch[0].error = error
                return
            for call in batch:  # one call's crops must not fail another's
                self._answer([call])
            return
        ends = np.cumsum([len(call.crops) for call in batch])
        for call, own in zip(batch, np.split(rows, ends[:-1]), strict=True):
            call.rows = own.copy()  # a row does not keep the whole batch in memory
