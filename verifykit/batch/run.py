"""Identify every image of a source, continued where an earlier run stopped.

A run searches the gallery as it was when it began: its end does not wait for others to stop enrolling.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from verifykit._cpus import available_cpus
from verifykit._files import atomic_write, sync
from verifykit.batch.engine import Engine, LocalEngine, block_size
from verifykit.batch.output import (
    FORMAT_KEY,
    begin,
    not_ours,
    open_output,
    read_rows,
    require_settings,
    write_rows,
)
from verifykit.batch.sources import Source, SourceImage, open_source
from verifykit.batch.tables import Question, Row, is_table, write_table
from verifykit.datasets import LeftOut, overlooked
from verifykit.decision import DecisionOptions
from verifykit.encoder import Encoder
from verifykit.errors import GalleryError, InputError, shown
from verifykit.extraction import FURTHER_FRAMES, SampleOptions
from verifykit.gallery import GalleryInfo, GallerySnapshot, checked_question, take_snapshot
from verifykit.gallery.base import gallery_info
from verifykit.models import calibration_digest
from verifykit.spec import Attack
from verifykit.types import MultiFace, QualityGate, TurnedChoice
from verifykit.verifier import Verifier

FORMAT = 2

_NOT_LOOKED_AT = ("unreadable", "failed", "no_embedding")


def gallery_state(info: GalleryInfo) -> dict[str, Any]:
    """Return what identifies a gallery, and changes when it is written to.

    A gallery in a file or on a server counts its changes. Of one in memory only the numbers of subjects and
    templates are known, so that one template in the place of another goes unnoticed.
    """
    known = ("created", "revision", "subject_count", "template_count")
    found: dict[str, Any] = dict(info)
    return {name: found[name] for name in known if name in found}


@dataclass(frozen=True)
class BatchSummary:
    """What an output holds when the run is through.

    Attributes:
        images: Images of the source, all of them with a row now.
        resumed: How many of them had one from an earlier run.
        faces: Faces that were searched for.
        matched_faces: Faces with at least one candidate.
        errors: Images that gave no answer, by error code.
        seconds: Time of this run: ``"total"``, and by stage, summed over its workers.
        left_out: What was not looked at, by reason: what a folder holds besides images, such as ``"hidden"``;
            images with further pages or frames, as ``"further_frames"``.
        left_out_names: The first names of each reason.
        error_names: The first names of each error code.
        gallery: What was searched: the gallery's revision and counts when the run began.
        gallery_since: The same at its end, if the gallery was written to meanwhile; else None.
        notes: What else is to be known about the source, in sentences.
    """

    images: int
    resumed: int
    faces: int
    matched_faces: int
    errors: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    left_out: dict[str, int] = field(default_factory=dict)
    left_out_names: dict[str, list[str]] = field(default_factory=dict, compare=False)
    error_names: dict[str, list[str]] = field(default_factory=dict, compare=False)
    gallery: dict[str, Any] = field(default_factory=dict, compare=False)
    gallery_since: dict[str, Any] | None = field(default=None, compare=False)
    notes: list[str] = field(default_factory=list, compare=False)

    @property
    def overlooked(self) -> int:
        """How many images, videos, pages and frames were not looked at; 0 for a complete run."""
        return overlooked(self.left_out) + sum(self.errors.get(code, 0) for code in _NOT_LOOKED_AT)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready plain values."""
        return {**asdict(self), "overlooked": self.overlooked}


class Tally:
    """Counts over rows."""

    def __init__(self) -> None:
        self._errors, self._left_out = LeftOut(), LeftOut()
        self._faces = 0
        self._matched = 0

    def add(self, row: Row) -> None:
        """Count one image."""
        if "error" in row:
            self._errors.add(row["error"], row["image"])
        reasons = set(row.get("reasons", ()))
        for face in row.get("faces", ()):
            self._faces += 1
            self._matched += bool(face["candidates"])
            reasons.update(face["reasons"])
        if FURTHER_FRAMES in reasons:
            self._left_out.add(FURTHER_FRAMES, row["image"])

    def summary(self, images: int, resumed: int) -> BatchSummary:
        """Return the counts as they are now."""
        return BatchSummary(
            images,
            resumed,
            self._faces,
            self._matched,
            dict(sorted(self._errors.counts.items())),
            left_out=dict(self._left_out.counts),
            left_out_names=self._left_out.names,
            error_names=dict(sorted(self._errors.names.items())),
        )


def identify_batch(
    verifier: Verifier,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    fmr: float | None = None,
    threshold: float | None = None,
    attack: Attack | None = None,
    fpir: float | None = None,
    limit: int = 5,
    multi_face: MultiFace = "all",
    quality: QualityGate = "strict",
    turned: TurnedChoice = "upright",
    max_faces: int = 64,
    second_face_share: float = 0.25,
    every: int | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> BatchSummary:
    """Identify every face in every image of a source, in the gallery as it is now.

    Who is enrolled or removed while it runs makes no difference to it.

    JSON lines begin with the settings; then each holds ``image``, ``decision`` (``"match"``,
    ``"no_match"`` or an error code), ``faces`` (``box_px``, ``reasons``, ``decision``, ``candidates`` with
    ``subject_id`` and ``score``), ``threshold``, ``fmr``, ``attack``, ``fpir``, ``gallery_size``, and the
    digests ``model`` and ``calibration``. In place of ``faces``, an image that could not be used has
    ``error`` (such as ``"no_face"`` or ``"unreadable"``) and ``message``. In CSV and Parquet a row is a
    face; while it runs, its JSON lines are stored next to the output, in ``<out>.journal``, and its
    settings stay there, in ``<out>.state.json``.

    Args:
        verifier: The model and the gallery.
        source: A folder, a list, a manifest or a video: see :func:`~verifykit.batch.open_source`.
        out: The output, ``.jsonl``, ``.csv`` or ``.parquet``; continued if it is there.
        fmr: False match rate of one comparison, in (0, 1); None takes the model's default.
        threshold: A bare score threshold in [-1, 1] instead.
        attack: What the rate is about; None takes the model's default.
        fpir: False positive identification rate in this gallery, in (0, 1), instead of ``fmr``.
        limit: At most so many candidates for each face.
        multi_face: What to do with several faces in an image.
        quality: Whether a quality reason refuses or only warns.
        turned: What to do with a face on its side: turn the image upright, or refuse it.
        max_faces: Most faces of one image, the largest.
        second_face_share: With ``multi_face="error"``, the share of the largest face's area from which a
            second one counts.
        every: Of a video, every n-th frame.
        workers: Threads that decode, detect and embed, at least 1; None takes one a core. The output does
            not depend on it. With several, a model opened with ``threads=1`` is the fastest.
        engine: What does the work instead of this process's threads.
        on_progress: Called with the number of images that are done and of all, also before the first.

    Returns:
        Counts over the whole output.

    Raises:
        InputError: ``source`` cannot be read, an option is not allowed, an extra is not installed, another
            process is writing to ``out``, or it is not an output of this run: of another source, model,
            gallery or setting. Nothing was written to it then.
        CalibrationError: The model does not go down to this ``fmr`` for this ``attack``.
        GalleryError: The gallery cannot be read.
        OSError: ``out`` cannot be written.
    """
    start, out = time.perf_counter(), Path(out)
    sample = SampleOptions(multi_face, quality, turned, max_faces, second_face_share)
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise InputError(f"workers is a positive integer, got {shown(workers)}")
    if engine is not None and workers is not None:
        raise InputError(
            f"workers={workers} is for this process, and an engine is given: leave it out"
        )
    decision = DecisionOptions(fmr, threshold, attack, fpir=fpir)
    spec = verifier.spec
    with closing(
        take_snapshot(verifier.gallery, spec.embedding_size, spec.fusion, spec.cohort)
    ) as gallery:
        question = _question(verifier, gallery, decision, sample, limit)
        as_table = is_table(out)
        images = open_source(source, every)
        count = images.count()
        header = _header(question, images, gallery, verifier.encoder)
        engine = engine or LocalEngine(verifier.encoder, workers or available_cpus())
        run = _Run(question, images, count, header, engine, gallery, out, on_progress)
        summary = run.to_table() if as_table else run.to_lines(out)
    taken = {"total": time.perf_counter() - start, **engine.seconds}
    since = header["gallery"]
    with suppress(GalleryError):  # the run is through
        since = gallery_state(gallery_info(verifier.gallery))
    return replace(
        summary,
        seconds={stage: round(taken[stage], 3) for stage in taken},
        gallery_since=None if since == header["gallery"] else since,
    )


def _question(
    verifier: Verifier,
    gallery: GallerySnapshot,
    decision: DecisionOptions,
    sample: SampleOptions,
    limit: int,
) -> Question:
    subject_count = gallery.info["subject_count"]
    rule = decision.search_rule(verifier.spec, DecisionOptions(), subject_count)
    checked_question(limit, rule.threshold)
    return Question(
        rule=rule,
        sample=sample,
        limit=limit,
        gallery_size=subject_count,
        model=verifier.spec.digest,
        calibration=calibration_digest(verifier.spec),
    )


def _header(
    question: Question, images: Source, gallery: GallerySnapshot, encoder: Encoder
) -> dict[str, Any]:
    rule, chosen = question.rule, asdict(question.sample)
    if (
        question.sample.multi_face != "error"
    ):  # without effect, and an earlier version did not name it
        del chosen["second_face_share"]
    return {
        FORMAT_KEY: FORMAT,
        "source": images.identity,
        "model": question.model,
        "calibration": question.calibration,
        "gallery": gallery_state(gallery.info),
        **rule.search_values(),
        "limit": question.limit,
        **chosen,
        "block": block_size(encoder),
        # An output of an earlier version names none: it was begun in float32.
        **({} if encoder.precision == "fp32" else {"precision": encoder.precision}),
    }


@dataclass
class _Run:
    question: Question
    source: Source
    count: int
    header: dict[str, Any]
    engine: Engine
    gallery: GallerySnapshot
    out: Path
    on_progress: Callable[[int, int], None] | None
    tally: Tally = field(default_factory=Tally)

    def to_table(self) -> BatchSummary:
        journal = self.out.with_name(f"{self.out.name}.journal")
        state = self.out.with_name(f"{self.out.name}.state.json")
        if self.out.exists() and not journal.exists():
            return self._finished(state)
        summary = self.to_lines(journal)
        with open_output(journal) as file:
            # In this order: a table without its journal is finished, and says of what run it is.
            counts = {**asdict(summary), "seconds": {}}
            body = {"settings": self.header, "count": self.count, "summary": counts}
            atomic_write(state, json.dumps(body, indent=1) + "\n")
            write_table(read_rows(file, journal), self.out)
        journal.unlink(missing_ok=True)
        return summary

    def _finished(self, state: Path) -> BatchSummary:
        try:
            body = json.loads(state.read_bytes())
            settings, count = body["settings"], body["count"]
            summary = BatchSummary(**body["summary"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(not_ours(self.out)) from error
        require_settings(settings, self.header, self.out)
        if count != self.count:
            raise InputError(
                f"{shown(str(self.out))} is finished, of {count} images, and there are {self.count} now: a "
                "table is not added to; give another output, or one that ends in .jsonl"
            )
        if self.on_progress:
            self.on_progress(summary.images, summary.images)
        return self._described(replace(summary, resumed=summary.images))

    def to_lines(self, lines: Path) -> BatchSummary:
        with open_output(lines) as file:
            begin(file, lines, self.header)
            resumed, skipped, todo = self._todo(file, lines)
            # What was cut short goes, and only now that everything before it is known to be ours.
            file.truncate()
            done = resumed
            if self.on_progress:
                self.on_progress(done, max(done, self.count))
            blocks = _blocks(todo, self.header["block"])
            with closing(self.engine.answers(self.question, self.gallery, blocks)) as answers:
                for answered in answers:
                    rows, skipped = answered[skipped:], 0
                    write_rows(file, rows)
                    for row in rows:
                        self.tally.add(row)
                        done += 1
                        if self.on_progress:
                            self.on_progress(done, max(done, self.count))
            sync(file.fileno())
        return self._described(self.tally.summary(done, resumed))

    def _described(self, summary: BatchSummary) -> BatchSummary:
        """Add what the source says about itself."""
        source = self.source
        return replace(
            summary,
            left_out={**source.left_out, **summary.left_out},
            left_out_names={**source.left_out_names, **summary.left_out_names},
            gallery=self.header["gallery"],
            notes=list(source.notes),
        )

    def _todo(self, file: BinaryIO, lines: Path) -> tuple[int, int, Iterator[SourceImage]]:
        """Return how many images have a row, how many of those to work on have one too, and the latter.

        A block that was interrupted is worked on as a whole again.
        """
        block = self.header["block"]
        source, done, is_prefix = self.source.images(), 0, True
        tail: deque[SourceImage] = deque(maxlen=block)
        for row in read_rows(file, lines):
            self.tally.add(row)
            done += 1
            if is_prefix:
                image = next(source, None)
                is_prefix = image is not None and image.name == row["image"]
                if image is not None:
                    tail.append(image)
        if not is_prefix:
            return self._added(file, lines, done)
        begun = list(tail)[len(tail) - done % block :]
        return done, *_unless_finished(begun, source)

    def _added(
        self, file: BinaryIO, lines: Path, done: int
    ) -> tuple[int, int, Iterator[SourceImage]]:
        """Return the same for a source that has changed: images without a row follow the others."""
        names = [row["image"] for row in read_rows(file, lines)]
        known = set(names)
        begun = dict.fromkeys(names[done - done % self.header["block"] :])
        resumed = 0
        for image in self.source.images():
            if image.name in known:
                resumed += 1
            if image.name in begun:
                begun[image.name] = image
        again = [begun[name] or SourceImage(name, b"") for name in begun]
        rest = (image for image in self.source.images() if image.name not in known)
        return resumed, *_unless_finished(again, rest)


def _unless_finished(
    begun: list[SourceImage], rest: Iterator[SourceImage]
) -> tuple[int, Iterator[SourceImage]]:
    first = next(rest, None)
    if first is None:
        return 0, iter(())
    return len(begun), chain(begun, [first], rest)


def _blocks(images: Iterator[SourceImage], size: int) -> Iterator[list[SourceImage]]:
    while block := list(islice(images, size)):
        yield block
