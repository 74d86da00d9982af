"""Watch live scores: count them, store the counts, and say when a stated rate no longer holds."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from verifykit._files import atomic_write, require_possible
from verifykit.decision import DecisionOptions
from verifykit.drift.evidence import Evidence, Levels
from verifykit.drift.panel import Panel
from verifykit.drift.repeats import RecentProbes
from verifykit.drift.state import DriftReport, WatchState, forget, locked
from verifykit.errors import InputError, VerifyKitError, shown
from verifykit.gallery import Gallery
from verifykit.models import calibration_digest
from verifykit.spec import ModelSpec
from verifykit.types import Embeddings

PANEL_SUBJECTS = 128

_FLUSH_PROBES = 100
_FLUSH_S = 60.0
_PANEL_S = 60.0
_PANEL_SHARE = 100  # drawing a panel takes at most a hundredth of the time

_log = logging.getLogger("verifykit.drift")


class ScoreWatch:
    """Compares the non-mated scores of live traffic with a calibration's.

    Each probe is compared with up to 128 subjects drawn at random, without the one that it may be of. Only
    counts are stored. The evidence against the calibration is that of :mod:`verifykit.drift.evidence`: a
    false alarm comes after 365,000 probes or more on average. Safe to share between threads; several
    processes may count into one file. A forked process counts for itself.

    Attributes:
        path: The file of counts; None keeps them in memory.
        levels: The rates that scores are held against.
    """

    def __init__(
        self,
        spec: ModelSpec,
        path: str | os.PathLike[str] | None = None,
        decision: DecisionOptions | None = None,
        *,
        panel_subjects: int = PANEL_SUBJECTS,
        restart: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin, or continue what a file holds.

        Args:
            spec: The model with its calibration.
            path: The file of counts, made at the first flush; None keeps them in memory.
            decision: What decisions request, whose rate is watched; None is the model's default.
            panel_subjects: How many subjects a probe is compared with, at least 1.
            restart: Begin again if the file is damaged, or of another calibration or rate.
            clock: Returns seconds.

        Raises:
            CalibrationError: The model is not calibrated for random forgeries.
            InputError: The file cannot be read, or is of another calibration or rate.
        """
        if panel_subjects < 1:
            raise InputError(f"panel_subjects must be at least 1, got {panel_subjects}")
        self.path = None if path is None else _checked_path(path)
        self.levels = Levels.of(spec, stated_rate(spec, decision or DecisionOptions()))
        self._spec, self._decision = spec, decision
        self._panel_subjects, self._clock = panel_subjects, clock
        self._empty = WatchState(
            spec.name, calibration_digest(spec), self.levels, Evidence.none(self.levels)
        )
        self._begin()
        try:
            self._read()
        except InputError:
            if not restart or self.path is None:
                raise
            with suppress(OSError):  # then the first flush fails, and says so
                forget(self.path)
            _log.warning("scores are counted again: the file is of another calibration, or damaged")

    @property
    def least_subjects(self) -> int:
        """Return how many subjects a gallery has before anything is counted: 52 with the model ``face``."""
        return self.levels.least_subjects

    def __reduce__(self) -> tuple[object, ...]:
        self.flush()
        opened = partial(ScoreWatch, panel_subjects=self._panel_subjects)
        return opened, (self._spec, self.path, self._decision)

    def _begin(self) -> None:
        self._lock, self._flushing, self._drawing = (threading.Lock() for _ in range(3))
        self._memory = self._empty
        self._pending = self._empty.evidence
        self._flushed_at = self._clock()
        self._panel: tuple[Gallery, Panel, float] | None = None
        self._recent = RecentProbes(self._spec, self._clock)
        self._random = random.Random(int.from_bytes(os.urandom(8), "big"))  # noqa: S311
        self._is_announced = self._is_broken = self._is_unstored = False
        # Last: another thread of a forked process must not take the parent's locks for its own.
        self._pid = os.getpid()

    def record(self, gallery: Gallery, probes: Embeddings, left_out: Sequence[str | None]) -> None:
        """Count the probes of one image; whatever fails is logged, and never the caller's error.

        A probe that is like one of the last hour is not counted, nor is any in a gallery of fewer than
        :attr:`least_subjects`.

        Args:
            gallery: Where others are drawn from.
            probes: (P, D) float32, unit rows.
            left_out: For each probe the subject that it may be of, who is not compared with it.
        """
        try:
            self._record(gallery, probes, left_out)
        except Exception as error:  # noqa: BLE001 - a store of another package may raise anything
            self._warn_once("live scores are not counted", error)

    def _record(self, gallery: Gallery, probes: Embeddings, left_out: Sequence[str | None]) -> None:
        self._own_process()
        new = [n for n, probe in enumerate(probes) if self._recent.add(probe)]
        if not new:
            return
        panel = self._panel_of(gallery)
        bets = self.levels.bets(panel.subject_count)
        if bets is None:
            return
        scores, counts = panel.reached(probes[new], [left_out[n] for n in new], self._spec)
        if not scores:
            return
        self._add(Evidence.of_probe(bets, scores, counts))

    def record_scores(self, scores: Sequence[float], reference_count: int = 1) -> None:
        """Count the scores of one probe against others, computed elsewhere.

        Args:
            scores: At least one score of a probe against a subject who is not its own, drawn without regard
                to the score: not the best of a search.
            reference_count: References of each subject.

        Raises:
            InputError: There is no score, or one is not finite.
            CalibrationError: The model is not calibrated for so few references.
        """
        values = np.asarray(scores, np.float64)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise InputError(f"scores are finite numbers, at least one, got {shown(scores)}")
        scale = self._spec.score_scale("random_forgery", reference_count)
        if scale is None:
            self._spec.operating_point(self.levels.stated, "random_forgery", reference_count)
            raise InputError(f"no thresholds for {reference_count} references")
        limits = self.levels.thresholds(self._spec, scale.points[0].reference_count)
        bets = self.levels.bets(float("inf"))
        assert bets is not None  # noqa: S101 - endless subjects are enough
        counts = (values[:, None] >= limits).sum(axis=0)
        self._add(Evidence.of_probe(bets, len(values), counts))

    def _own_process(self) -> None:
        """Begin again in a forked process: its parent stores what the parent counted."""
        if os.getpid() != self._pid:
            self._begin()

    def _add(self, evidence: Evidence) -> None:
        self._own_process()
        with self._lock:
            self._pending = self._pending.then(evidence)
            # A file that could not be written is tried each minute: it may be waited for in vain.
            is_full = self._pending.probes >= _FLUSH_PROBES and not self._is_unstored
        if is_full or self._clock() - self._flushed_at >= _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Store what was counted; where that fails it is logged, kept, and stored with the next."""
        try:
            self.store()
        except (OSError, VerifyKitError) as error:
            self._warn_once("counts of live scores are not stored", error)

    def store(self) -> None:
        """Store what was counted; where that fails it is kept, and stored with the next.

        Raises:
            InputError: The file is not one of these counts, or another process holds it.
            OSError: It cannot be written.
        """
        self._own_process()
        with self._flushing:
            with self._lock:
                block, self._pending = self._pending, self._empty.evidence
                self._flushed_at = self._clock()
            if not block.probes:
                return
            try:
                state = self._store(block)
            except (OSError, VerifyKitError):
                with self._lock:
                    self._pending, self._is_unstored = block.then(self._pending), True
                raise
            self._is_unstored = False
        self._announce(state)

    def _store(self, block: Evidence) -> WatchState:
        if self.path is None:
            self._memory = self._memory.then(block)
            return self._memory
        with locked(self.path):
            state = (self._read() or self._empty).then(block)
            atomic_write(self.path, state.to_json(), mode=0o600, durable=False)
        return state

    def _read(self) -> WatchState | None:
        if self.path is None:
            return self._memory
        found = WatchState.read(self.path)
        if found is not None and not found.is_of(self._empty):
            raise InputError(
                f"{shown(str(self.path))} counts scores against another calibration or stated rate "
                f"({found.levels.stated:g} of {shown(found.model)}): give another path, or begin again with "
                "--reset"
            )
        return found

    def _announce(self, state: WatchState) -> None:
        was_announced, self._is_announced = self._is_announced, state.drift_since is not None
        if was_announced or not self._is_announced:
            return
        report = state.report()
        now = "unknown" if report.fmr_now is None else f"{report.fmr_now:.2g}"
        _log.warning(
            "the stated false match rate no longer holds: stated %g, estimated now %s; see verifykit "
            "watch-scores",
            report.stated_fmr,
            now,
        )

    def _warn_once(self, message: str, error: Exception) -> None:
        if not self._is_broken:
            self._is_broken = True
            _log.warning("%s: %s", message, type(error).__name__)

    def _panel_of(self, gallery: Gallery) -> Panel:
        with self._drawing:
            now = self._clock()
            if self._panel is not None:
                known, panel, until = self._panel
                if known is gallery and now < until:
                    return panel
            panel = Panel.draw(gallery, self._spec, self.levels, self._panel_subjects, self._random)
            took = self._clock() - now
            self._panel = gallery, panel, now + took + max(_PANEL_S, _PANEL_SHARE * took)
            return panel

    def report(self) -> DriftReport:
        """Return what is known: stored by all processes, and counted by this one since.

        Raises:
            InputError: The file cannot be read.
        """
        self._own_process()
        with self._lock:
            pending = self._pending
        state = self._read() or self._empty
        return (state.then(pending) if pending.probes else state).report()

    def reset(self) -> None:
        """Begin again: forget all counts, also those that other processes stored.

        Raises:
            InputError: The file is another one, or another process holds it.
            OSError: The file cannot be removed.
        """
        self._own_process()
        if self.path is not None:
            forget(self.path)
        with self._lock:
            self._pending = self._empty.evidence
        self._memory = self._empty
        self._is_announced = False


def _checked_path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"the file of counts is a path, got {shown(path)}")
    require_possible(found := Path(path))
    return found


def stated_rate(spec: ModelSpec, decision: DecisionOptions) -> float:
    """Return the rate of random forgeries at the threshold of single comparisons that is decided by.

    Raises:
        CalibrationError: The model is not calibrated for random forgeries, or not down to the rate.
    """
    points = [p for p in spec.operating_points if p.attack == "random_forgery"]
    fewest = min((point.reference_count for point in points), default=1)
    threshold = decision.rule(spec, references=fewest).threshold
    scale = spec.score_scale("random_forgery", fewest)
    rate = None if scale is None else scale.fmr(threshold)
    if rate is None:
        # The same message as for any decision about random forgeries.
        return spec.operating_point(decision.fmr, "random_forgery", fewest).fmr
    return rate
