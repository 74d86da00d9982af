"""Retention while the service runs: at its start and daily, erase subjects enrolled too long ago."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from verifykit.errors import VerifyKitError
from verifykit.privacy import expire
from verifykit.server.service import Service

_DAY_S = 86_400.0
_RETRY_S = 3_600.0

_log = logging.getLogger("verifykit.server")


@asynccontextmanager
async def retention(service: Service) -> AsyncIterator[None]:
    """Keep to the operator's time in this block; at its end an erasure that is under way is finished.

    Args:
        service: What is open.
    """
    age = service.settings.expire
    if age is None:
        yield
        return
    ending = asyncio.Event()
    task = asyncio.create_task(_daily(service, age, ending))
    try:
        yield
    finally:
        ending.set()
        await task


async def _daily(service: Service, age: timedelta, ending: asyncio.Event) -> None:
    while not ending.is_set():
        all_done = await asyncio.to_thread(expire_all, service, age, lambda: not ending.is_set())
        try:
            await asyncio.wait_for(ending.wait(), _DAY_S if all_done else _RETRY_S)
        except asyncio.TimeoutError:
            continue


def expire_all(service: Service, age: timedelta, go_on: Callable[[], bool]) -> bool:
    """Erase from every gallery who has been there for too long, and say so in the audit log."""
    all_done = True
    for name, model in service.models.items():
        gallery = model.verifier.gallery
        try:
            report = expire(gallery, age, audit=service.audit, go_on=go_on)
        except VerifyKitError:
            _log.exception("retention", extra={"fields": {"model": name}})
            all_done = False
            continue
        fields = {"model": name, "removed_count": len(report.expired), "erased": report.erased}
        _log.info("retention", extra={"fields": fields})
        all_done = all_done and report.erased
    return all_done
