"""What is stored of live scores: counts and the evidence, in one small JSON file; nothing of a person."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from verifykit._files import FileLock, LockHeldError
from verifykit.drift.evidence import BET_COUNT, FALSE_ALARM_PROBES, Evidence, Levels, rate_now
from verifykit.errors import InputError, shortened_path, shown

FORMAT_KEY = "verifykit_scores"
FORMAT = 1

LOCK_S = 5.0
"""How long a file of counts is waited for while another process writes it."""

_SUFFIX = "scores.json"
_ARRAYS = ("counts", "recent", "log_product", "log_sum")


def scores_path(gallery: str) -> Path:
    """Return where the counts of a service on a gallery's file are."""
    return Path(f"{gallery}.{_SUFFIX}")


@dataclass(frozen=True)
class LevelCount:
    """How many live scores reached the threshold of one rate.

    Attributes:
        fmr: The rate by the calibration.
        tolerated: The share up to which live scores agree with it.
        count: Scores that reached it.
        share: Their share of all scores; None before the first.
        recent_share: The same of the last 2,000 to 4,000 probes, older ones weighing less.
    """

    fmr: float
    tolerated: float
    count: int
    share: float | None
    recent_share: float | None


@dataclass(frozen=True)
class DriftReport:
    """Whether the calibration's rates still hold for live scores.

    Attributes:
        model: The model's name.
        calibration: Digest of the calibration.
        stated_fmr: The false match rate that decisions state.
        has_drift: Whether the evidence reached ``alarm_at``, now or earlier.
        evidence: How strongly the live scores speak against the calibration.
        alarm_at: The evidence of an alarm, and the least mean number of probes to a false one.
        probes: Probes that were counted.
        scores: Their scores, each against several subjects.
        levels: Counts by rate, the highest first.
        fmr_now: Estimate of the rate at the stated rate's threshold, from the recent counts; None with too
            few.
        started: Time of the first count, ISO 8601, UTC; None before.
        drift_since: Time of the alarm, ISO 8601, UTC; None without.
        drift_probes: Probes that had been counted then; None without.
    """

    model: str
    calibration: str
    stated_fmr: float
    has_drift: bool
    evidence: float
    alarm_at: int
    probes: int
    scores: int
    levels: tuple[LevelCount, ...]
    fmr_now: float | None
    started: str | None
    drift_since: str | None
    drift_probes: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class WatchState:
    """The counts of live scores against one calibration.

    Attributes:
        model: The model's name.
        calibration: Digest of the calibration.
        levels: The rates that scores are held against.
        evidence: What is known.
        started: Time of the first count, ISO 8601, UTC; None before.
        drift_since: Time of the alarm; it stays until the counts begin again.
        drift_probes: Probes at that time.
    """

    model: str
    calibration: str
    levels: Levels
    evidence: Evidence
    started: str | None = None
    drift_since: str | None = None
    drift_probes: int | None = None

    def is_of(self, other: WatchState) -> bool:
        """Return whether both are of one calibration and one stated rate."""
        return self.calibration == other.calibration and self.levels.is_same(other.levels)

    def then(self, later: Evidence) -> WatchState:
        """Return the state after more probes."""
        found = replace(self, evidence=self.evidence.then(later), started=self.started or _now())
        if found.drift_since is None and found.evidence.is_alarm:
            return replace(found, drift_since=_now(), drift_probes=found.evidence.probes)
        return found

    def report(self) -> DriftReport:
        """Return what the counts say."""
        evidence, levels = self.evidence, self.levels
        recent = evidence.recent.tolist()
        rows = [
            LevelCount(
                rate, tolerated, count, _share(count, evidence.scores), _share(now, recent[1])
            )
            for rate, tolerated, count, now in zip(
                levels.rates, levels.tolerated, evidence.counts.tolist(), recent[2:], strict=True
            )
        ]
        return DriftReport(
            model=self.model,
            calibration=self.calibration,
            stated_fmr=levels.stated,
            has_drift=self.drift_since is not None,
            evidence=math.exp(min(evidence.log_evidence, 700.0)),
            alarm_at=FALSE_ALARM_PROBES,
            probes=evidence.probes,
            scores=evidence.scores,
            levels=tuple(rows),
            fmr_now=rate_now(levels, recent[1], recent[2:]),
            started=self.started,
            drift_since=self.drift_since,
            drift_probes=self.drift_probes,
        )

    def to_json(self) -> str:
        """Return one line of JSON; only after the first probe."""
        evidence = self.evidence
        body = {
            FORMAT_KEY: FORMAT,
            "model": self.model,
            "calibration": self.calibration,
            "levels": asdict(self.levels),
            "probes": evidence.probes,
            "scores": evidence.scores,
            **{name: getattr(evidence, name).tolist() for name in _ARRAYS},
            "started": self.started,
            "drift_since": self.drift_since,
            "drift_probes": self.drift_probes,
        }
        return json.dumps(body, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, path: Path) -> WatchState:
        """Return the state that :meth:`to_json` wrote.

        Raises:
            InputError: The text is something else, or of a newer version.
        """
        try:
            body = json.loads(text)
            if (found := body[FORMAT_KEY]) == FORMAT:
                return cls._of(body)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(
                f"{shown(str(path))} is not a file of counted scores, or it is damaged: give another path, "
                "or begin again with --reset"
            ) from error
        raise InputError(
            f"{shown(str(path))} has format {shown(found)}, this verifykit reads {FORMAT}: install the "
            "verifykit that wrote it"
        )

    @classmethod
    def _of(cls, body: dict[str, Any]) -> WatchState:
        levels = Levels(
            tuple(map(float, body["levels"]["rates"])),
            tuple(map(float, body["levels"]["tolerated"])),
            float(body["levels"]["stated"]),
        )
        sizes = (len(levels.rates), len(levels.rates) + 2, BET_COUNT, BET_COUNT)
        arrays = [
            _array(body[name], size, np.int64 if name == "counts" else np.float64)
            for name, size in zip(_ARRAYS, sizes, strict=True)
        ]
        return cls(
            str(body["model"]),
            str(body["calibration"]),
            levels,
            Evidence(int(body["probes"]), int(body["scores"]), *arrays),
            _optional(body["started"], str),
            _optional(body["drift_since"], str),
            _optional(body["drift_probes"], int),
        )

    @classmethod
    def read(cls, path: Path) -> WatchState | None:
        """Return the state in a file; None without one, or of an empty one.

        Raises:
            InputError: It cannot be read, or is something else.
        """
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise InputError(f"{shown(str(path))} cannot be read: {why}") from shortened_path(error)
        return cls.from_json(text, path) if text else None


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a file of counts against other processes, and yield its descriptor; it is made if it is missing.

    Raises:
        InputError: Another process holds it.
        OSError: It cannot be opened.
    """
    try:
        with FileLock(path, timeout_s=LOCK_S) as handle:
            yield handle
    except LockHeldError as error:
        raise InputError(f"{shown(str(path))} is in use by another process: try again") from error


def forget(path: Path) -> None:
    """Remove a file of counts, if there is one.

    Raises:
        InputError: It is another file, or another process holds it.
        OSError: It cannot be removed.
    """
    if not path.exists():
        return
    with locked(path) as handle:
        _require_counts(path)
        os.ftruncate(handle, 0)  # who waits for the lock finds it empty
    path.unlink(missing_ok=True)


def _require_counts(path: Path) -> None:
    """Raise for a file that no counts were in: a mistyped path must not cost a gallery."""
    with path.open("rb") as file:
        start = file.read(len(FORMAT_KEY) + 3)
    if start and FORMAT_KEY.encode() not in start and not path.name.endswith(_SUFFIX):
        raise InputError(
            f"{shown(str(path))} is not a file of counted scores, so that it is not removed: check the path"
        )


def joined(states: Sequence[WatchState]) -> WatchState:
    """Return the counts and the evidence of several files together, such as those of several machines.

    Raises:
        InputError: They are not of one calibration and one stated rate.
    """
    first, *others = states
    for other in others:
        if not first.is_of(other):
            raise InputError(
                "these files count scores against different calibrations or rates: report each alone"
            )
        times = [each for each in (first.started, other.started) if each]
        first = replace(first.then(other.evidence), started=min(times, default=None))
    alarms = [each.drift_since for each in states if each.drift_since]
    return replace(first, drift_since=min(alarms)) if alarms else first


def _optional(value: Any, kind: type[str] | type[int]) -> Any:
    if value is not None and type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}")
    return value


def _array(values: Any, size: int, kind: Any) -> Any:
    found = np.array(values, kind)
    if found.shape != (size,) or not np.isfinite(found).all():
        raise ValueError(f"expected {size} numbers")
    return found


def _share(count: float, scores: float) -> float | None:
    return count / scores if scores else None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
