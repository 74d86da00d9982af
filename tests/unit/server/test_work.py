"""A bounded number of jobs, a bounded queue, and an end that finishes what was accepted."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from verifykit.server.errors import ProblemError
from verifykit.server.service import WorkerPool


def test_jobs_run_in_threads_and_what_they_raise_comes_back() -> None:
    async def main() -> None:
        work = WorkerPool(2, 0)
        assert await work.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await work.run(lambda: 1 / 0)
        assert await work.run(lambda: "still there") == "still there"
        work.close()

    asyncio.run(main())


def test_more_than_workers_and_queue_hold_is_refused_at_once() -> None:
    async def main() -> None:
        work, gate = WorkerPool(2, 1), threading.Event()
        held = [asyncio.create_task(work.run(gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        assert work.waiting == 1
        with pytest.raises(ProblemError) as refused:
            await work.run(gate.wait)
        assert (refused.value.code, refused.value.status) == ("queue_full", 503)
        assert int(refused.value.headers["Retry-After"]) >= 1
        gate.set()
        assert await asyncio.gather(*held) == [True] * 3
        assert await work.run(lambda: 1) == 1
        work.close()

    asyncio.run(main())


def test_a_request_that_was_cancelled_gives_its_place_back() -> None:
    async def main() -> None:
        work, gate = WorkerPool(1, 1), threading.Event()
        running = asyncio.create_task(work.run(gate.wait))
        ran = threading.Event()
        waiting = asyncio.create_task(work.run(ran.set))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert work.waiting == 0
        gate.set()
        assert await running is True
        assert await work.run(lambda: 2) == 2
        assert not ran.is_set()
        work.close()

    asyncio.run(main())


def test_the_end_waits_for_what_was_accepted_and_refuses_the_rest() -> None:
    async def main() -> None:
        work, gate = WorkerPool(1, 4), threading.Event()
        held = [asyncio.create_task(work.run(gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(work.close))
        await asyncio.sleep(0.05)
        with pytest.raises(ProblemError) as refused:
            await work.run(gate.wait)
        assert refused.value.code == "shutting_down"
        assert not closing.done()
        gate.set()
        assert await asyncio.gather(*held) == [True] * 3
        await closing
        work.close()

    asyncio.run(main())


def test_a_job_sees_the_context_of_its_request() -> None:
    name = contextvars.ContextVar("name", default="")

    async def main() -> None:
        work = WorkerPool(1, 0)
        name.set("mine")
        assert await work.run(name.get) == "mine"
        work.close()

    asyncio.run(main())


def test_what_hangs_is_answered_and_what_waits_behind_it_is_not_done() -> None:
    async def main() -> None:
        work, gate, ran = WorkerPool(1, 1, timeout_s=0.2), threading.Event(), threading.Event()
        hanging = asyncio.create_task(work.run(gate.wait))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(work.run(ran.set))
        answers = await asyncio.gather(hanging, waiting, return_exceptions=True)
        codes = [getattr(answer, "code", answer) for answer in answers]
        assert codes == ["gallery_unavailable", "queue_full"]
        with pytest.raises(ProblemError):  # the hanging one still has its worker
            await work.run(ran.set)
        gate.set()
        assert await work.run(lambda: "well again") == "well again"
        assert not ran.is_set()
        work.close()

    asyncio.run(main())


def test_a_time_out_of_the_job_is_the_jobs() -> None:
    def late() -> None:
        raise asyncio.TimeoutError

    async def main() -> None:
        work = WorkerPool(1, 0)
        with pytest.raises(asyncio.TimeoutError):
            await work.run(late)
        work.close()

    asyncio.run(main())
