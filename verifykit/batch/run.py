"""Identify every image of a source, continued where an earlier run stopped.

Decoding, embedding and search run at once, with the same rows whatever the number of workers.

Images are worked on in blocks of a fixed number, in the order of the source, and the batches of a block
are made of its own faces in order. What a network computes for a face may depend, in its last bit, on
the faces next to it; here these depend on nothing but the source, neither on threads nor on where a run
was interrupted.

One thread, the caller's, moves blocks from stage to stage; it submits no further block before the oldest
was taken from it. So a slow disk holds up the decoding, and no queue grows.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from verifykit._files import atomic_write
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
from verifykit.batch.tables import (
    Question,
    Refusal,
    Row,
    answer_row,
    is_table,
    refusal_row,
    write_table,
)
from verifykit.decision import DecisionOptions
from verifykit.encoder import BATCH_SIZES, Encoder
from verifykit.errors import (
    AcquisitionError,
    GalleryError,
    ImageError,
    InputError,
    ModelContractError,
    VerifyKitError,
    shown,
)
from verifykit.extraction import SampleOptions
from verifykit.gallery import Gallery, checked_question
from verifykit.gallery.base import gallery_info
from verifykit.models import calibration_digest
from verifykit.spec import Attack
from verifykit.types import Candidate, Image, MultiFace, QualityGate, Sample
from verifykit.verifier import Verifier

_AHEAD = 2  # blocks that are being decoded while one is embedded and one is searched for
_LEAST_BLOCK = 16
# A large gallery is read from memory once a search, whatever the number of probes (benchmarks.batch). What
# is found does not depend on how many are searched for together.
_LARGE_GALLERY = 50_000
_TOGETHER = 8

_Acquired = list[Sample] | Refusal
_Embedded = NDArray[np.float32] | Refusal
_T = TypeVar("_T")

FORMAT = 2


@dataclass(frozen=True)
class Answered:
    """The answers of a block, or of several that follow on one another.

    Attributes:
        rows: One an image, in order.
        gallery: The gallery's state after they were searched for.
    """

    rows: list[Row]
    gallery: dict[str, Any]


class Engine(Protocol):
    """What turns blocks of images into blocks of rows, in order.

    Attributes:
        seconds: Time in each stage, summed over workers.
    """

    seconds: dict[str, float]

    def answers(
        self, question: Question, blocks: Iterable[Sequence[SourceImage]]
    ) -> Generator[Answered, None, None]:
        """Yield the answers, a block at a time, in order; closed early, end what was begun.

        Args:
            question: The options of the run.
            blocks: Images, read only as fast as answers are taken.

        Raises:
            VerifyKitError: What stops a run; a bad image does not.
        """


@dataclass
class LocalEngine:
    """Threads of this process.

    Attributes:
        verifier: The model and the gallery.
        workers: Threads that decode, detect and embed.
        seconds: Time in each stage, summed over workers.
    """

    verifier: Verifier
    workers: int
    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answers(
        self, question: Question, blocks: Iterable[Sequence[SourceImage]]
    ) -> Generator[Answered, None, None]:
        """See :meth:`Engine.answers`."""
        decoding: deque[_Block] = deque()
        embedding: deque[_Block] = deque()
        searching: deque[Future[Answered]] = deque()
        pool = ThreadPoolExecutor(self.workers, "verifykit-batch")
        searcher = ThreadPoolExecutor(1, "verifykit-search")
        waiting, ahead = iter(blocks), _AHEAD + self.workers // block_size(self.verifier.encoder)
        together = _TOGETHER if question.gallery_size >= _LARGE_GALLERY else 1
        limits = _one_blas_thread()
        try:
            while True:
                for block in islice(waiting, ahead + 1 - len(decoding)):
                    decoding.append(self._decode(pool, question, block))
                if not (decoding or embedding or searching):
                    return
                if decoding:
                    embedding.append(self._embed(pool, decoding.popleft()))
                if embedding and (len(embedding) > together or not decoding):
                    ready = [embedding.popleft() for _ in range(min(together, len(embedding)))]
                    searching.append(searcher.submit(self._search, question, ready))
                if searching and (len(searching) > 1 or not embedding):
                    yield searching.popleft().result()
        finally:
            for stage in (pool, searcher):
                stage.shutdown(wait=True, cancel_futures=True)
            limits.restore_original_limits()

    def _decode(
        self, pool: ThreadPoolExecutor, question: Question, images: Sequence[SourceImage]
    ) -> _Block:
        acquired = [
            pool.submit(self._timed, "decode and detect", _acquire, self.verifier, image, question)
            for image in images
        ]
        # Not the images: a video's frame is given back as soon as its faces are cut.
        return _Block([image.name for image in images], acquired)

    def _embed(self, pool: ThreadPoolExecutor, block: _Block) -> _Block:
        encoder = self.verifier.encoder
        block.acquired = [future.result() for future in block.decoding]
        block.embedding = [
            pool.submit(self._timed, "embed", _embed, encoder, batch)
            for batch in _batches(encoder, block.acquired)
        ]
        return block

    def _search(self, question: Question, blocks: Sequence[_Block]) -> Answered:
        names = [name for block in blocks for name in block.names]
        acquired = [samples for block in blocks for samples in block.acquired]
        batches = (future.result() for block in blocks for future in block.embedding)
        embedded = [row for batch in batches for row in batch]
        return self._timed("search", _answers, self.verifier, question, names, acquired, embedded)

    def _timed(self, stage: str, work: Callable[..., _T], *arguments: object) -> _T:
        start = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            with self._lock:
                taken = time.perf_counter() - start
                self.seconds[stage] = self.seconds.get(stage, 0.0) + taken


@dataclass
class _Block:
    names: list[str]
    decoding: list[Future[_Acquired]]
    acquired: list[_Acquired] = field(default_factory=list)
    embedding: list[Future[list[_Embedded]]] = field(default_factory=list)


def block_size(encoder: Encoder) -> int:
    """Return how many images are worked on as a whole: several batches, so that most are full."""
    return max(_LEAST_BLOCK, BATCH_SIZES[encoder.provider])


def gallery_state(gallery: Gallery) -> dict[str, Any]:
    """Return what identifies this gallery, and changes when it is written to.

    A gallery in a file or on a server counts its changes. Of one in memory only the numbers of subjects and
    templates are known, so that one template in the place of another goes unnoticed.
    """
    info: dict[str, Any] = dict(gallery_info(gallery))
    known = ("created", "revision", "subject_count", "template_count")
    return {name: info[name] for name in known if name in info}


def answer_block(verifier: Verifier, question: Question, images: Sequence[SourceImage]) -> Answered:
    """Answer one block, one step after the other in the thread of the caller."""
    with _one_blas_thread():
        acquired = [_acquire(verifier, image, question) for image in images]
        batches = _batches(verifier.encoder, acquired)
        embedded = [row for batch in batches for row in _embed(verifier.encoder, batch)]
        return _answers(verifier, question, [image.name for image in images], acquired, embedded)


def _one_blas_thread() -> threadpool_limits:
    """Keep BLAS to the thread that calls it, for as long as the workers have use for every core.

    Its own threads spin for a while after each product: with small galleries they took a fifth of
    the processor (benchmarks.batch).
    """
    return threadpool_limits(1, user_api="blas")


def _acquire(verifier: Verifier, image: SourceImage, question: Question) -> _Acquired:
    try:
        return verifier.encoder.extractor.samples(
            image.image, SampleOptions(question.multi_face, question.quality)
        )
    except (AcquisitionError, ImageError) as error:
        return Refusal(error.reason, str(error))
    except (VerifyKitError, MemoryError):  # not the image's fault
        raise
    except Exception as error:  # noqa: BLE001 - one bad image never stops a run
        return Refusal("failed", f"{type(error).__name__}: {error}")


def _batches(encoder: Encoder, acquired: Sequence[_Acquired]) -> list[list[Image]]:
    crops = [s.crop for samples in acquired if isinstance(samples, list) for s in samples]
    size = BATCH_SIZES[encoder.provider]
    return [crops[start : start + size] for start in range(0, len(crops), size)]


def _embed(encoder: Encoder, crops: Sequence[Image]) -> list[_Embedded]:
    try:
        return list(encoder.encode(crops))
    except ModelContractError as error:
        if len(crops) == 1:
            return [Refusal("no_embedding", str(error))]
        return [row for crop in crops for row in _embed(encoder, [crop])]


def _answers(
    verifier: Verifier,
    question: Question,
    names: Sequence[str],
    acquired: Sequence[_Acquired],
    embedded: Sequence[_Embedded],
) -> Answered:
    probes = [row for row in embedded if not isinstance(row, Refusal)]
    found: Iterator[list[Candidate]] = iter(())
    if probes:
        threshold = question.rule.threshold
        found = iter(
            verifier.gallery.search(np.stack(probes), limit=question.limit, threshold=threshold)
        )
    each = iter(embedded)
    rows = []
    for name, samples in zip(names, acquired, strict=True):
        if isinstance(samples, Refusal):
            rows.append(refusal_row(name, samples, question))
            continue
        mine = [next(each) for _ in samples]
        answers = [[] if isinstance(row, Refusal) else next(found) for row in mine]
        refused = next((row for row in mine if isinstance(row, Refusal)), None)
        rows.append(
            refusal_row(name, refused, question)
            if refused
            else answer_row(name, samples, answers, question)
        )
    return Answered(rows, gallery_state(verifier.gallery))


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
        left_out: What a folder holds besides images, by reason, such as ``"hidden"``.
    """

    images: int
    resumed: int
    faces: int
    matched_faces: int
    errors: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    left_out: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready plain values."""
        return asdict(self)


class Tally:
    """Counts over rows."""

    def __init__(self) -> None:
        self._errors = Counter[str]()
        self._faces = 0
        self._matched = 0

    def add(self, row: Row) -> None:
        """Count one image."""
        if "error" in row:
            self._errors[row["error"]] += 1
        for face in row.get("faces", ()):
            self._faces += 1
            self._matched += bool(face["candidates"])

    def summary(self, images: int, resumed: int) -> BatchSummary:
        """Return the counts as they are now."""
        errors = dict(sorted(self._errors.items()))
        return BatchSummary(images, resumed, self._faces, self._matched, errors)


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
    on_progress: Callable[[int, int], None] | None = None,
) -> BatchSummary:
    """Identify every face in every image of a source.

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
        on_progress: Called with the number of images that are done and of all, also before the first.

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
    SampleOptions(multi_face, quality)
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise InputError(f"workers is a positive integer, got {shown(workers)}")
    if engine is not None and workers is not None:
        raise InputError(
            f"workers={workers} is for this process, and an engine is given: leave it out"
        )
    state = gallery_state(verifier.gallery)
    rule = DecisionOptions(fmr, threshold, attack, fpir=fpir).search_rule(
        verifier.spec, DecisionOptions(), state["subject_count"]
    )
    checked_question(limit, rule.threshold)
    question = Question(
        rule=rule,
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
        "threshold": rule.threshold,
        "fmr": rule.fmr,
        "attack": rule.attack,
        "fpir": rule.fpir,
        "limit": limit,
        "multi_face": multi_face,
        "quality": quality,
        "block": block_size(verifier.encoder),
    }
    engine = engine or LocalEngine(verifier, workers or os.cpu_count() or 1)
    run = _Run(question, images, count, header, engine, out, on_progress)
    summary = run.to_table() if as_table else run.to_lines(out)
    taken = {"total": time.perf_counter() - start, **engine.seconds}
    seconds = {stage: round(taken[stage], 3) for stage in taken}
    return replace(summary, seconds=seconds, left_out=images.left_out)


@dataclass
class _Run:
    question: Question
    source: Source
    count: int
    header: dict[str, Any]
    engine: Engine
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
        return replace(summary, resumed=summary.images)

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
            with closing(self.engine.answers(self.question, blocks)) as answers:
                for answered in answers:
                    self._require_same(answered.gallery)
                    rows, skipped = answered.rows[skipped:], 0
                    write_rows(file, rows)
                    for row in rows:
                        self.tally.add(row)
                        done += 1
                        if self.on_progress:
                            self.on_progress(done, max(done, self.count))
            os.fsync(file.fileno())
        return self.tally.summary(done, resumed)

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

    def _require_same(self, gallery: dict[str, Any]) -> None:
        if gallery != self.header["gallery"]:
            raise GalleryError(
                f"the gallery was changed while {shown(str(self.out))} was being written: the rows in it are "
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
