"""Hold the clock against what is stored before subjects are erased by it.

An erasure by age depends on one input that nothing verifies: the clock of this machine. It is compared with
the newest enrolment and the newest entry of the audit log, the times of those who would be erased with the
gallery's own, and their number with a share of all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from numbers import Real

from verifykit.audit import AuditLog, parse_time, tail_log
from verifykit.errors import ExpiryRefusedError, InputError, shown
from verifykit.gallery import Enrolment, SupportsExpiry
from verifykit.gallery.base import copied_since, unix_time
from verifykit.gallery.times import EARLIEST, TOLERANCE_S, iso_time, time_problem

MAX_SHARE = 0.1
"""The share of a gallery's subjects that may be erased at once."""

# In a small gallery one subject is more than a share, so a few may go where the clock was confirmed lately.
_FEW = 3
_RECENT = timedelta(days=30)

_ADVICE = (
    "look at --dry-run (dry_run=True), and if all of them are to be erased, give --confirm-all "
)
_ADVICE += "(confirmed=True)"


@dataclass(frozen=True)
class ExpiryCheck:
    """What an erasure by age would do, and what speaks against it.

    ``due`` are to be erased, ``suspect`` have an impossible time of enrolment, whether due or not.
    """

    now: int
    before: int
    created: int
    due: tuple[Enrolment, ...]
    suspect: tuple[tuple[Enrolment, str], ...]
    refusal: ExpiryRefusedError | None


def check_expiry(
    gallery: SupportsExpiry, age: timedelta, *, audit: AuditLog | None, max_share: float
) -> ExpiryCheck:
    """Return who would be erased now, and why that is refused, if it is; nothing is written."""
    require_share("max_share", max_share)
    now, created = int(time.time()), unix_time(gallery.created)
    before = int(now - age.total_seconds())
    enrolments = gallery.enrolments()
    due = tuple(each for each in enrolments if since(each, created) < before)
    first = min(created, copied_since(gallery) or created)
    suspect = tuple(
        (each, problem)
        for each in enrolments
        if (problem := time_problem(since(each, created), first, now))
    )
    newest = max([created, *(since(each, created) for each in enrolments)])
    logged = [] if audit is None else tail_log(audit.path, 1)
    newest = max([newest, *(int(parse_time(entry.time).timestamp()) for entry in logged)])
    refusal = None
    if due:
        refusal = (
            _clock_refusal(now, newest, age)
            or _suspect_refusal(due, suspect)
            or _share_refusal(len(due), len(enrolments), max_share, now - newest)
        )
    return ExpiryCheck(now, before, created, due, suspect, refusal)


def require_share(name: str, value: object) -> None:
    """Raise :class:`InputError` for what is no share."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise InputError(f"{name} must be in [0, 1], a number, got {shown(value)}")


def since(enrolment: Enrolment, created: int) -> int:
    """Return from when a subject's time counts."""
    return created if enrolment.enrolled_at is None else enrolment.enrolled_at


def _clock_refusal(now: int, newest: int, age: timedelta) -> ExpiryRefusedError | None:
    if now < EARLIEST or now < newest - TOLERANCE_S:
        return ExpiryRefusedError(
            f"the clock says {iso_time(now)}, but the newest enrolment or audit entry is of "
            f"{iso_time(newest)}: set the clock; if the clock is right, enrol again who was enrolled in the "
            "future (`verifykit gallery check` names them); nothing was erased",
            reason="clock_behind",
        )
    if now - newest > max(_RECENT, age).total_seconds():
        return ExpiryRefusedError(
            f"the clock says {iso_time(now)}, but nothing was enrolled or logged since {iso_time(newest)}: "
            f"set the clock if it is wrong; else {_ADVICE}; nothing was erased",
            reason="clock_ahead",
        )
    return None


def _suspect_refusal(
    due: Sequence[Enrolment], suspect: Sequence[tuple[Enrolment, str]]
) -> ExpiryRefusedError | None:
    found = [(each.subject_id, problem) for each, problem in suspect if each in due]
    if not found:
        return None
    subject_id, problem = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return ExpiryRefusedError(
        f"subject {shown(subject_id)}{more}: {problem}, so its age is not known: enrol it again or remove "
        f"it; to erase it as expired, {_ADVICE}; nothing was erased",
        reason="impossible_time",
    )


def _share_refusal(
    due: int, total: int, max_share: float, silence_s: float
) -> ExpiryRefusedError | None:
    if due <= max_share * total or (due <= _FEW and silence_s <= _RECENT.total_seconds()):
        return None
    return ExpiryRefusedError(
        f"{due} of {total} subjects would be erased at once, more than the share of {max_share:g} that is "
        f"allowed: {_ADVICE}, or a larger --max-share (max_share=); nothing was erased",
        reason="too_many",
    )
