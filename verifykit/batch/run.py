"""One run: from a source to an output, continued where an earlier one stopped."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from verifykit.acquisition import require_options
from verifykit.asked import Asked
from verifykit.batch.output import (
    FORMAT_KEY,
    begin,
    not_ours,
    open_output,
    read_rows,
    require_settings,
    write_rows,
)
from verifykit.batch.pipeline import Engine, LocalEngine, block_size, gallery_state
from verifykit.batch.rows import Question
from verifykit.batch.sources import Source, SourceImage, open_source
from verifykit.batch.summary import BatchSummary, Tally
from verifykit.batch.tables import is_table, write_table
from verifykit.errors import GalleryError, InputError
from verifykit.gallery import checked_question
from verifykit.models import calibration_digest
from verifykit.spec import Attack
from verifykit.types import MultiFace, QualityGate
from verifykit.verifier import Verifier
from verifykit.writing import write_whole

__all__ = ["identify_batch"]

FORMAT = 2


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
    every: int | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> BatchSummary:
    """Identify every face in every image of a source.

    JSON lines begin with the settings; then each holds ``image``, ``decision`` (``"match"``,
    ``"no_match"`` or an error code), ``faces`` (``box_px``, ``reasons``, ``decision``, ``candidates`` with
    ``subject_id`` and ``score``), ``threshold``, ``fmr``, ``attack``, ``fpir``, ``gallery_size``, and the
    digests ``model`` and ``calibration``. In place of ``faces``, an image that could not be used has
    ``error`` (such as ``"no_face"`` or ``"unreadable"``) and ``message``. In CSV and Parquet a row is a
    face; while the run goes on, its JSON lines lie beside the output, in ``<out>.journal``, and its
    settings stay there, in ``<out>.state.json``.

    Args:
        verifier: The model and the gallery.
        source: A folder, a list, a manifest or a video: see :func:`~verifykit.batch.open_source`.
        out: The output, ``.jsonl``, ``.csv`` or ``.parquet``; continued if it is there.
        fmr: False match rate of one comparison, in (0, 1); None takes the model's default.
        threshold: A bare cosine threshold in [-1, 1] instead.
        attack: What the rate is about; None takes the model's default.
        fpir: False positive identification rate in this gallery, in (0, 1), instead of ``fmr``.
        limit: At most so many candidates for each face.
        multi_face: What to do with several faces in an image.
        quality: Whether a quality reason refuses or only warns.
        every: Of a video, every n-th frame.
        workers: Threads that decode, detect and embed, at least 1; None takes one a core. The output does
            not depend on it. With several, a model opened with ``threads=1`` is the fastest.
        engine: What does the work instead of this process's threads.
        on_image: Called with the number of images that are done and of all, also before the first.

    Returns:
        Counts over the whole output.

    Raises:
        InputError: ``source`` cannot be read, an option is not allowed, an extra is not installed, another
            process is writing to ``out``, or it is not an output of this run: of another source, model,
            gallery or setting. Nothing was written to it then.
        CalibrationError: The model does not go down to this ``fmr`` for this ``attack``.
        GalleryError: The gallery was changed during the run, or cannot be read.
        OSError: ``out`` cannot be written.
    """
    start, out = time.perf_counter(), Path(out)
    require_options(multi_face, quality)
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise InputError(f"workers is a positive integer, got {workers!r}")
    if engine is not None and workers is not None:
        raise InputError(
            f"workers={workers} is for this process, and an engine is given: leave it out"
        )
    state = gallery_state(verifier.gallery)
    criterion = Asked(fmr, threshold, attack).search_criterion(
        verifier.spec, Asked(), fpir, state["subject_count"]
    )
    checked_question(limit, criterion.threshold)
    question = Question(
        criterion=criterion,
        limit=limit,
        multi_face=multi_face,
        quality=quality,
        gallery_size=state["subject_count"],
        model=verifier.spec.digest,
        calibration=calibration_digest(verifier.spec),
    )
    as_table = is_table(out)
    images = open_source(source, every)
    count = images.count()
    header = {
        FORMAT_KEY: FORMAT,
        "source": images.identity,
        "model": question.model,
        "calibration": question.calibration,
        "gallery": state,
        "threshold": criterion.threshold,
        "fmr": criterion.fmr,
        "attack": criterion.attack,
        "fpir": criterion.fpir,
        "limit": limit,
        "multi_face": multi_face,
        "quality": quality,
        "block": block_size(verifier.encoder),
    }
    engine = engine or LocalEngine(verifier, workers or os.cpu_count() or 1)
    run = _Run(question, images, count, header, engine, out, on_image)
    summary = run.to_table() if as_table else run.to_lines(out)
    taken = {"total": time.perf_counter() - start, **engine.seconds}
    return replace(summary, seconds={stage: round(taken[stage], 3) for stage in taken})


@dataclass
class _Run:
    question: Question
    source: Source
    count: int
    header: dict[str, Any]
    engine: Engine
    out: Path
    on_image: Callable[[int, int], None] | None
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
            write_whole(state, json.dumps(body, indent=1).encode("ascii") + b"\n")
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
                f"{str(self.out)!r} is finished, of {count} images, and there are {self.count} now: a table "
                "is not added to; give another output, or one that ends in .jsonl"
            )
        if self.on_image:
            self.on_image(summary.images, summary.images)
        return replace(summary, resumed=summary.images)

    def to_lines(self, lines: Path) -> BatchSummary:
        with open_output(lines) as file:
            begin(file, lines, self.header)
            resumed, skipped, todo = self._todo(file, lines)
            # What was cut short goes, and only now that everything before it is known to be ours.
            file.truncate()
            done = resumed
            if self.on_image:
                self.on_image(done, max(done, self.count))
            blocks = _blocks(todo, self.header["block"])
            with closing(self.engine.answers(self.question, blocks)) as answers:
                for answered in answers:
                    self._require_same(answered.gallery)
                    rows, skipped = answered.rows[skipped:], 0
                    write_rows(file, rows)
                    for row in rows:
                        self.tally.add(row)
                        done += 1
                        if self.on_image:
                            self.on_image(done, max(done, self.count))
            os.fsync(file.fileno())
        return self.tally.summary(done, resumed)

    def _todo(self, file: BinaryIO, lines: Path) -> tuple[int, int, Iterator[SourceImage]]:
        """How many images have a row; of the images to work on how many have, too; and those images.

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
        """The same for a source that is not what it was: images without a row follow on the others."""
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

    def _require_same(self, gallery: dict[str, Any]) -> None:
        if gallery != self.header["gallery"]:
            raise GalleryError(
                f"the gallery was changed while {str(self.out)!r} was being written: the rows in it are "
                "sound, but the rest would mix two galleries; start again with a new output"
            )


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
