"""A bounded number of threads does the library's work; the event loop never waits for it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from verifykit.server.problems import ProblemError

__all__ = ["Work"]

T = TypeVar("T")

_RETRY_S = 1


class Work:
    """Workers, and a queue of limited length before them."""

    def __init__(self, workers: int, queue: int, *, timeout_s: float = 30.0) -> None:
        """Start the workers.

        Args:
            workers: Jobs that run at the same time.
            queue: Jobs that wait; one more is refused.
            timeout_s: How long a job is waited for. A gallery's server that hangs is no reason to leave
                clients without an answer.
        """
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="verifykit-work")
        self._workers, self._room = workers, workers + queue
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._accepted = 0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Jobs that were accepted, and that no worker has taken yet."""
        return max(0, self._accepted - self._workers)

    async def run(self, job: Callable[[], T]) -> T:
        """Do a job in a worker's thread.

        Args:
            job: What to do; whatever it raises is raised here.

        Raises:
            ProblemError: ``queue_full``, or ``shutting_down`` after :meth:`close`; nothing was done.
                ``gallery_unavailable`` when it takes too long; then it goes on, and is done or not.
        """
        with self._lock:
            if self._is_closed:
                raise ProblemError("shutting_down", "the service is stopping", retry_s=_RETRY_S)
            if self._accepted >= self._room:
                raise ProblemError(
                    "queue_full",
                    f"{self._accepted} requests are being worked on or waiting, and no more can",
                    retry_s=_RETRY_S,
                )
            self._accepted += 1
            future = self._executor.submit(contextvars.copy_context().run, job)
        # Also when the request is cancelled before a worker took the job.
        future.add_done_callback(self._finished)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout_s)
        except asyncio.TimeoutError as error:
            if future.done() and not future.cancelled():
                raise  # the job's own
            code, detail = "gallery_unavailable", "it may still be done"
            if future.cancelled():
                code, detail = "queue_full", "no worker was free, nothing was done"
            raise ProblemError(
                code, f"no answer within {self._timeout_s:g} s: {detail}", retry_s=_RETRY_S
            ) from error

    def close(self) -> None:
        """Refuse new jobs and wait for those that were accepted; may be called twice."""
        with self._lock:
            self._is_closed = True
        self._executor.shutdown(wait=True)

    def _finished(self, _: Future[Any]) -> None:
        with self._lock:
            self._accepted -= 1
