"""Embed the images of an evaluation, one embedding an image.

`ModelEmbedder` chooses the face by a rule; `embed_images` keeps the reason of an image without an embedding;
`EmbeddingCache` keeps what files gave, so that a second evaluation starts at the scores.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sqlite3
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeAlias, TypeVar, Union, get_args

import numpy as np
from numpy.typing import NDArray

from verifykit import __version__, _sqlite, modalities
from verifykit._environment import cache_folder
from verifykit.datasets import Dataset, FaceChoice, LabelledImage, LeftOut
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError, ImageError, InputError, shortened_path, shown
from verifykit.evaluation.results import Failure
from verifykit.extraction import FURTHER_FRAMES, SampleOptions
from verifykit.image import MAX_BYTES, MAX_PIXELS, file_has_further_frames
from verifykit.modalities.plain import crop_plain
from verifykit.spec import Cohort, ModelSpec, OperatingPoint, PlainCrop
from verifykit.types import Image, ImageLike, QualityGate, Sample
from verifykit.verifier import open_encoder

EmbeddingOrReason: TypeAlias = NDArray[np.float32] | str
"""What a file gave: its embedding, (D,) float32 of unit length, or the reason why there is none."""

APPLICATION_ID = 0x564B4501
SCHEMA_VERSION = 1
_TIMEOUT_S = 30.0
_UNIT_TOLERANCE = 1e-3

_SCHEMA = """CREATE TABLE outcome (
    cache_key TEXT NOT NULL,
    file_sha256 TEXT NOT NULL,
    embedding BLOB,
    reason TEXT,
    PRIMARY KEY (cache_key, file_sha256),
    CHECK ((embedding IS NULL) <> (reason IS NULL)))"""

MISSING, UNREADABLE = "missing", "unreadable"
_SAVED_IMAGES, _SAVED_S = 100, 1.0
_EXAMPLES = 5


class Embedder(Protocol):
    """What turns an image into one embedding.

    Attributes:
        model: The model as it was requested: a registered name or a path.
        name: Its own name.
        digest: Digest of weights, input and crop.
        modality: What it compares.
        licence: SPDX identifier.
        fusion: How scores against several references become one.
        multi_face: What is done with several faces.
        quality: Whether weak samples are refused.
        cache_key: Changes with everything that an embedding depends on besides the image.
        operating_points: Its own thresholds; may be empty.
        cohort: Lowers the scores of look-alikes; None for bare cosines.
    """

    model: str
    name: str
    digest: str
    modality: str
    licence: str
    fusion: str
    multi_face: FaceChoice
    quality: QualityGate
    cache_key: str
    operating_points: Sequence[OperatingPoint]
    cohort: Cohort | None

    def embed(self, image: bytes, /) -> NDArray[np.float32]:
        """Return the embedding of the one sample in an image.

        Args:
            image: Bytes of an image file.

        Returns:
            (D,) float32 of unit length.

        Raises:
            ImageError: It cannot be read.
            AcquisitionError: It has no usable sample.
        """


class ModelEmbedder:
    """A model with the options of an evaluation.

    Attributes:
        spec: What the model says about itself.
        model: The model as it was requested.
        multi_face: What is done with several faces.
        quality: Whether a quality reason refuses a sample or is passed over.
        name: Its own name.
        digest: Digest of weights, input and crop.
        modality: What it compares.
        licence: SPDX identifier.
        fusion: How scores against several references become one.
        cache_key: SHA-256 in hexadecimal over everything that an embedding depends on besides the image.
        operating_points: Its own thresholds, one for every decade of FMR and for its default rate.
        cohort: Lowers the scores of look-alikes; None for bare cosines.
    """

    def __init__(
        self,
        encoder: Encoder,
        model: str,
        *,
        multi_face: FaceChoice = "error",
        quality: QualityGate = "strict",
        is_aligned: bool = False,
    ) -> None:
        """Take a model and what to do with its images.

        Args:
            encoder: The model, open.
            model: The model as it was requested: a registered name or a path.
            multi_face: What to do with several faces.
            quality: ``"strict"`` refuses a sample with a quality reason, ``"warn"`` takes it.
            is_aligned: The images are crops already, as in insightface's verification files: each is used
                whole, resized if necessary, without a detector and without quality.

        Raises:
            InputError: Unknown ``multi_face`` or ``quality``, or ``is_aligned`` for a modality that takes no
                crops.
        """
        if multi_face not in get_args(FaceChoice):
            raise InputError(
                f"multi_face must be one of {get_args(FaceChoice)}, got {shown(multi_face)}"
            )
        SampleOptions(quality=quality)
        if is_aligned and not modalities.of_crop(encoder.spec.crop).takes_crops:
            raise InputError(
                f"model {shown(model)} crops images itself ({encoder.spec.crop.kind}), so crops cannot be "
                "given to it: use whole images"
            )
        self._encoder = encoder
        self._is_aligned = is_aligned
        self.model = model
        self.multi_face = multi_face
        self.quality = quality
        self.spec = encoder.spec
        self.name = encoder.spec.name
        self.digest = encoder.spec.digest
        self.modality: str = encoder.spec.modality
        self.licence = encoder.spec.licence
        self.fusion: str = encoder.spec.fusion
        self.cache_key = _cache_key(encoder, multi_face, quality, is_aligned=is_aligned)
        self.operating_points = _shown_points(encoder.spec)
        self.cohort = encoder.spec.cohort

    def crop(self, image: ImageLike, /) -> Image:
        """Return the crop of the one sample in an image.

        With ``multi_face="middle"`` the face is chosen before it is judged, so that ``"strict"`` never
        makes another face be taken.

        Args:
            image: A path, encoded bytes, an open binary file, or a uint8 RGB array.

        Returns:
            (h, w, 3) uint8 RGB, the size that the model's crop states.

        Raises:
            ImageError: The image cannot be read.
            AcquisitionError: Nothing usable in it; ``reason`` says why.
        """
        extractor = self._encoder.extractor
        loaded = extractor.load(image)
        if self._is_aligned:
            size = self.spec.crop
            return crop_plain(
                loaded.whole().pixels, PlainCrop(size.height_px, size.width_px, "stretch")
            )
        if self.multi_face != "middle":
            options = SampleOptions(self.multi_face, self.quality)
            return extractor.samples(loaded, options)[0].crop
        samples = extractor.samples(loaded, SampleOptions("all", "warn"))
        sample = middle(samples, *loaded.size_px)
        reasons = extractor.refusing(sample)
        if reasons and self.quality == "strict":
            raise AcquisitionError(
                f"the face nearest the middle is not usable ({', '.join(reasons)}); take "
                "another image, or accept it with quality='warn'",
                reason=reasons[0],
            )
        return sample.crop

    def embed(self, image: ImageLike, /) -> NDArray[np.float32]:
        """Return the embedding of the one sample in an image: that of :meth:`crop`.

        Args:
            image: A path, encoded bytes, an open binary file, or a uint8 RGB array.

        Returns:
            (D,) float32 of unit length.

        Raises:
            ImageError: The image cannot be read.
            AcquisitionError: Nothing usable in it; ``reason`` says why.
            ModelContractError: The network returned a row that is zero or not finite.
            ProviderError: The provider failed.
        """
        row: NDArray[np.float32] = self._encoder.encode([self.crop(image)])[0]
        return row


ModelLike: TypeAlias = Union[str, "os.PathLike[str]", Encoder]
"""A registered name, the path of a model file, or an open encoder."""

AnyEmbedder = TypeVar("AnyEmbedder")


def as_embedder(
    model: ModelLike | AnyEmbedder, *, is_aligned: bool = False
) -> ModelEmbedder | AnyEmbedder:
    """Return an embedder as it is, and for a model one with the default options.

    Raises:
        ModelError, ProviderError: The model cannot be opened.
    """
    if isinstance(model, Encoder):
        return ModelEmbedder(model, model.spec.name, is_aligned=is_aligned)
    if isinstance(model, (str, os.PathLike)):
        return ModelEmbedder(open_encoder(model), os.fspath(model), is_aligned=is_aligned)
    return model


def _shown_points(spec: ModelSpec) -> Sequence[OperatingPoint]:
    def is_shown(point: OperatingPoint) -> bool:
        power = math.log10(point.fmr)
        is_default = (point.fmr, point.attack) == (spec.default_fmr, spec.default_attack)
        return is_default or math.isclose(power, round(power), abs_tol=1e-6)

    return tuple(filter(is_shown, spec.operating_points))


def middle(samples: Sequence[Sample], height_px: int, width_px: int) -> Sample:
    """Return the sample whose box is nearest the middle of its image."""

    def off_centre(sample: Sample) -> float:
        if sample.detection is None:
            return 0.0
        left, top, width, height = sample.detection.box_px
        return math.hypot(left + (width - width_px) / 2, top + (height - height_px) / 2)

    return min(samples, key=off_centre)


def _cache_key(
    encoder: Encoder, multi_face: FaceChoice, quality: QualityGate, *, is_aligned: bool
) -> str:
    checks = encoder.extractor.checks
    depends_on = [
        encoder.spec.digest,
        multi_face,
        quality,
        repr([(check.name, check.limits, *sorted(check.warnings_for_probe)) for check in checks]),
        __version__,
        encoder.provider,
        encoder.extractor.least_side_px,
    ]
    if encoder.extractor.max_pixels != MAX_PIXELS:
        depends_on.append(f"max_pixels {encoder.extractor.max_pixels}")
    if encoder.precision != "fp32":
        depends_on.append(f"precision {encoder.precision}")
    if is_aligned:
        depends_on.append("aligned")
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Embedded:
    """What images gave: embeddings, or reasons.

    Attributes:
        rows: (A, D) float32 unit rows of the A images with an embedding, in their order; (0, 0) when no
            image has one.
        row_of: (N,) int64, the row of each image, -1 for an image without.
        reasons: Index of each image without an embedding to the reason.
        file_digests: (N,) SHA-256 of each image's file in hexadecimal; ``"missing"`` or
            ``"unreadable"`` where there is nothing to digest.
        further_frames: Indices of the images whose files hold pages or frames that were not looked at.
    """

    rows: NDArray[np.float32]
    row_of: NDArray[np.int64]
    reasons: Mapping[int, str]
    file_digests: tuple[str, ...]
    further_frames: tuple[int, ...] = ()


def embed_images(
    embedder: Embedder,
    images: Sequence[LabelledImage],
    *,
    cache: EmbeddingCache | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Embedded:
    """Embed images; each file is read once, and what is embedded is what was digested.

    Whatever ends the run, what it has computed is in the cache; a kill that cannot be handled costs at
    most the last second or the last 100 images.
    """
    digests: list[str] = []
    row_of = np.full(len(images), -1, dtype=np.int64)
    rows: list[NDArray[np.float32]] = []
    reasons: dict[int, str] = {}
    further: list[int] = []
    if on_progress:
        on_progress(0, len(images))
    with _Memory(embedder, cache) as memory:
        for number, image in enumerate(images):
            data = _read(image.path)
            digests.append(data if isinstance(data, str) else hashlib.sha256(data).hexdigest())
            if isinstance(data, bytes) and file_has_further_frames(data):
                further.append(number)
            outcome = data if isinstance(data, str) else memory.outcome(data, digests[-1])
            if isinstance(outcome, str):
                reasons[number] = outcome
            else:
                row_of[number] = len(rows)
                rows.append(outcome)
            if on_progress:
                on_progress(number + 1, len(images))
    stacked = np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)
    return Embedded(stacked, row_of, reasons, tuple(digests), tuple(further))


def with_further_frames(data: Dataset, embedded: Embedded | None = None) -> Dataset:
    """Return the data with the pages and frames that are not looked at among what is left out.

    Without what the images gave, each file is read for it.
    """
    if embedded is None:
        read = ((number, _read(image.path)) for number, image in enumerate(data.images))
        further = tuple(
            number
            for number, file in read
            if isinstance(file, bytes) and file_has_further_frames(file)
        )
    else:
        further = embedded.further_frames
    left_out = LeftOut(Counter(data.left_out), {k: list(v) for k, v in data.left_out_names.items()})
    for number in further:
        left_out.add(FURTHER_FRAMES, data.images[number].name)
    return replace(data, left_out=dict(left_out.counts), left_out_names=left_out.names)


def failures(images: Sequence[LabelledImage], embedded: Embedded) -> tuple[Failure, ...]:
    """Return the images without an embedding by reason, the most frequent first, with some examples."""
    names: dict[str, list[str]] = {}
    for number, reason in sorted(embedded.reasons.items()):
        names.setdefault(reason, []).append(images[number].name)
    found = (Failure(reason, len(each), tuple(each[:_EXAMPLES])) for reason, each in names.items())
    return tuple(sorted(found, key=lambda failure: (-failure.count, failure.reason)))


def unread_count(failures: Mapping[str, int]) -> int:
    """Return how many images were missing or unreadable, of the failures by reason."""
    return failures.get(MISSING, 0) + failures.get(UNREADABLE, 0)


class _Memory:
    """What is known of files: from the cache, and from this run, of which nothing is lost."""

    def __init__(self, embedder: Embedder, cache: EmbeddingCache | None) -> None:
        self._embedder, self._cache = embedder, cache
        self._known: dict[str, EmbeddingOrReason] = {}
        self._unsaved: dict[str, EmbeddingOrReason] = {}
        self._saved_at = time.monotonic()

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self._save()

    def outcome(self, data: bytes, digest: str) -> EmbeddingOrReason:
        key = self._embedder.cache_key
        if digest not in self._known:
            stored = self._cache.get(key, [digest]) if self._cache is not None else {}
            self._known[digest] = (
                stored[digest] if digest in stored else self._compute(data, digest)
            )
        waited = time.monotonic() - self._saved_at >= _SAVED_S
        if waited or len(self._unsaved) >= _SAVED_IMAGES:
            self._save()
        return self._known[digest]

    def _compute(self, data: bytes, digest: str) -> EmbeddingOrReason:
        outcome: EmbeddingOrReason
        try:
            outcome = self._embedder.embed(data)
        except AcquisitionError as error:
            outcome = error.reason
        except ImageError:
            outcome = UNREADABLE
        self._unsaved[digest] = outcome
        return outcome

    def _save(self) -> None:
        if self._cache is not None and self._unsaved:
            self._cache.put(self._embedder.cache_key, self._unsaved)
        self._unsaved = {}
        self._saved_at = time.monotonic()


def _read(path: Path) -> bytes | str:
    """Return a file's bytes, or why there are none."""
    try:
        status = path.stat()
        # A pipe would never end, and load_image refuses such sizes too.
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return UNREADABLE
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError:
        return UNREADABLE


class EmbeddingCache:
    """An SQLite file that several processes may use at once; each object belongs to one thread.

    Only its owner can read it: embeddings are biometric data. It may be deleted at any time when no
    process uses it.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, or make it.

        Args:
            path: The file; None is ``embeddings.sqlite`` in verifykit's cache folder.

        Raises:
            InputError: It cannot be made or opened, is not an embedding cache, or is of another schema.
        """
        self.path = cache_folder() / "embeddings.sqlite" if path is None else path
        _make_file(self.path)
        with _translated(self.path):
            self._connection = _open(self.path)

    def get(self, cache_key: str, file_digests: Iterable[str]) -> dict[str, EmbeddingOrReason]:
        """Return what is known of files.

        Args:
            cache_key: Of the embedder.
            file_digests: SHA-256 of each file.

        Returns:
            Digest to outcome, of those that are known.

        Raises:
            InputError: The file cannot be read, is damaged, or was closed.
        """
        known: dict[str, EmbeddingOrReason] = {}
        with _translated(self.path):
            for digest in file_digests:
                found = self._connection.execute(
                    "SELECT embedding, reason FROM outcome WHERE cache_key = ? AND file_sha256 = ?",
                    (cache_key, digest),
                ).fetchone()
                if found is not None:
                    embedding, reason = found
                    known[digest] = reason if embedding is None else self._checked(embedding)
        return known

    def put(self, cache_key: str, outcomes: Mapping[str, EmbeddingOrReason]) -> None:
        """Keep what files gave, all of it or nothing; a file that is known is written over.

        Args:
            cache_key: Of the embedder.
            outcomes: SHA-256 of each file to its embedding or reason.

        Raises:
            InputError: The file cannot be written, or was closed.
        """
        rows = [
            (cache_key, digest, None, outcome)
            if isinstance(outcome, str)
            else (cache_key, digest, outcome.astype("<f4").tobytes(), None)
            for digest, outcome in outcomes.items()
        ]
        with _translated(self.path), _sqlite.writing(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._connection.close()

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _checked(self, data: bytes) -> NDArray[np.float32]:
        if len(data) % 4 == 0:
            embedding = np.frombuffer(data, dtype="<f4").astype(np.float32)
            if abs(float(np.linalg.norm(embedding.astype(np.float64))) - 1.0) <= _UNIT_TOLERANCE:
                return embedding
        raise InputError(
            f"embedding cache {shown(str(self.path))} is damaged, an embedding in it is not of unit length: "
            "delete it, it is made again"
        )


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sqlite.make_private_file(path)
    except OSError as error:
        raise InputError(
            f"embedding cache {shown(str(path))} cannot be made: {error.strerror or error}; set "
            "VERIFYKIT_HOME to a folder that can be written, or run without a cache"
        ) from shortened_path(error)


def _open(path: Path) -> sqlite3.Connection:
    connection = _sqlite.connect(path, timeout_s=_TIMEOUT_S, settings=(), one_thread=True)
    try:
        if _sqlite.is_fresh(connection):
            _make_schema(connection)
        _require_schema(connection, path)
        # A power failure may take the last commits back, which a cache survives; it tears nothing.
        connection.execute("PRAGMA synchronous=NORMAL").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _require_schema(connection: sqlite3.Connection, path: Path) -> None:
    if (found := _sqlite.pragma(connection, "application_id")) != APPLICATION_ID:
        raise InputError(
            f"{shown(str(path))} is not an embedding cache, but another database (application id {found}): "
            "give another path, or delete it if nothing needs it"
        )
    if (found := _sqlite.pragma(connection, "user_version")) != SCHEMA_VERSION:
        raise InputError(
            f"embedding cache {shown(str(path))} has schema {found}, this verifykit reads "
            f"{SCHEMA_VERSION}: delete it, it is made again"
        )


def _make_schema(connection: sqlite3.Connection) -> None:
    _sqlite.set_wal(connection, _TIMEOUT_S)
    with _sqlite.writing(connection):
        if _sqlite.is_fresh(connection):  # another process may have been quicker
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        # SQLite's texts for its result codes (sqlite3_errstr); Python 3.10 gives no code.
        if "not a database" in str(error) or "malformed" in str(error):
            raise InputError(
                f"{shown(str(path))} is not an embedding cache, or a damaged one ({error}): give another "
                "path, or delete it if nothing else needs it; a cache is made again"
            ) from error
        raise InputError(
            f"embedding cache {shown(str(path))}: {error}; check that its disk has free space and its folder "
            "can be written, or run without a cache"
        ) from error
