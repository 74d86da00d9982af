"""Retention while the service runs: at its start and daily, erase subjects enrolled too long ago.

Where the clock or the number of subjects is not plausible, nothing is erased: the service logs and counts the
refusal, shows it in ``/readyz``, and looks again on the next day.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from verifykit.errors import ExpiryRefusedError, VerifyKitError
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
            report = expire(
                gallery,
                age,
                audit=service.audit,
                max_share=service.settings.expire_max_share,
                go_on=go_on,
            )
        except ExpiryRefusedError as error:
            service.expiry_refusals[name] = error.reason
            service.metrics.expiry_refused(error.reason)
            fields = {"model": name, "reason": error.reason, "removed_count": 0}
            _log.error("retention refused", extra={"fields": fields})
            continue
        except VerifyKitError:
            _log.exception("retention", extra={"fields": {"model": name}})
            all_done = False
            continue
        service.expiry_refusals.pop(name, None)
        fields = {"model": name, "removed_count": len(report.expired), "erased": report.erased}
        _log.info("retention", extra={"fields": fields})
        all_done = all_done and report.erased
    return all_done
