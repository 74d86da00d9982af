"""Images to embeddings: one model file, opened and verified against its golden embedding."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from verifykit import modelfile
from verifykit._cpus import available_cpus, kept_pool, sharing_cores
from verifykit._given_faces import PlacedImage
from verifykit.calibration import Calibration
from verifykit.errors import InputError, ModelContractError, ModelIntegrityError, shortened, shown
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.image import LoadedImage
from verifykit.modalities import golden_image, of_crop, to_tensor
from verifykit.session import Precision, Provider, Session, unit_rows
from verifykit.spec import ModelSpec
from verifykit.types import Embeddings, Image, ImageLike, SampleRole, Template

_T = TypeVar("_T")
_AnyImage = TypeVar("_AnyImage", bound="ImageLike | LoadedImage | PlacedImage")

Encode: TypeAlias = Callable[[Sequence[Image]], Embeddings]
"""N crops, (h, w, 3) uint8 RGB each, to (N, D) unit rows: the one function that a test replaces."""

# On the CPU larger batches leave the caches and cost more per image; a GPU needs them.
BATCH_SIZES = {"cpu": 4, "openvino": 4, "cuda": 64}


class Encoder:
    """A model, ready to run; safe to share between threads, and to use in a forked process.

    Its pickle holds the model's name or path, and opens it again.

    Attributes:
        spec: The model's specification.
        encode: Crops to (N, D) float32 unit rows, in batches.
        extractor: Images to crops.
        provider: Name of the provider that runs it.
        image_threads: How many images of one call are worked on at once.
        precision: The precision that it computes in: ``"fp32"`` or ``"bf16"``.
        reopen: Opens the same model in another process; None for an encoder that cannot be pickled.
    """

    def __init__(
        self,
        spec: ModelSpec,
        encode: Encode,
        extractor: SampleExtractor,
        provider: str = "cpu",
        reopen: Callable[[], Encoder] | None = None,
        image_threads: int = 1,
        precision: Precision = "fp32",
    ) -> None:
        """Assemble an encoder; :meth:`open` does it from a file."""
        self.spec = spec
        self.encode = encode
        self.extractor = extractor
        self.provider = provider
        self.reopen = reopen
        self.image_threads = image_threads
        self.precision: Precision = precision

    def __reduce__(self) -> tuple[Callable[..., Encoder], tuple[object, ...]]:
        if self.reopen is None:
            raise InputError(
                "this encoder was assembled from its parts, so no other process can open it: pickle one that "
                "was opened from a model's name or file, or assemble it in the other process"
            )
        return _reopened, (self.reopen, self.spec.digest)

    @classmethod
    def open(
        cls,
        model: modelfile.ModelFile | str | os.PathLike[str],
        *,
        providers: Provider = "auto",
        threads: int | None = None,
        precision: Precision = "fp32",
    ) -> Encoder:
        """Open a model file and check that it reproduces its golden embedding here.

        Args:
            model: An opened model file, or the path of one.
            providers: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"openvino"``.
            threads: Threads within one run, and images of one call that are worked on at once; None uses
                every core.
            precision: ``"bf16"`` runs the encoder in bfloat16, on OpenVINO, and the detector in float32.

        Raises:
            ModelNotFoundError: No such file.
            ModelIntegrityError: The file is damaged.
            ModelContractError: No specification, one that contradicts the network, or the golden
                embedding is not reproduced.
            ProviderError: The provider is missing or did not start, or the processor has no bfloat16.
            InputError: An option is not allowed, or the provider has no such precision.
        """
        file = model if isinstance(model, modelfile.ModelFile) else modelfile.read(model)
        spec = file.spec
        path = file.path.absolute()
        session = Session(
            file.data,
            name=f"model {spec.name}",
            providers=providers,
            threads=threads,
            precision=precision,
            reread=partial(_reread, path, spec.digest),
        )
        detector = None
        if file.detector is not None:
            detector = of_crop(spec.crop).open_detector(
                file.detector, spec.crop, providers=providers, threads=threads
            )

        def encode(crops: Sequence[Image]) -> Embeddings:
            return _encode(session, spec, crops)

        _require_golden(spec, encode, session.provider)
        extractor = SampleExtractor(spec.crop, detector)
        reopen = partial(
            Encoder.open, path, providers=providers, threads=threads, precision=precision
        )
        at_once = (threads or available_cpus()) if session.provider != "cuda" else 1
        return cls(
            spec,
            encode,
            extractor,
            session.provider,
            reopen,
            image_threads=at_once,
            precision=precision,
        )

    def calibrated(self, calibration: Calibration | str | os.PathLike[str]) -> Encoder:
        """Return the same encoder with other operating points; galleries stay valid.

        Raises:
            CalibrationError: The calibration cannot be read, or is of another model or fusion.
        """
        if not isinstance(calibration, Calibration):
            calibration = Calibration.read(calibration)
        spec = calibration.apply(self.spec)
        reopen = self.reopen and partial(_reopened, self.reopen, spec.digest, calibration)
        return Encoder(
            spec,
            self.encode,
            self.extractor,
            self.provider,
            reopen,
            image_threads=self.image_threads,
            precision=self.precision,
        )

    def of_population(self, name: str) -> Encoder:
        """Return the same encoder with the thresholds of a population; galleries stay valid.

        Raises:
            CalibrationError: The model has no population of that name; the message lists those it has.
        """
        reopen = self.reopen and partial(_of_population, self.reopen, name)
        return Encoder(
            self.spec.of_population(name),
            self.encode,
            self.extractor,
            self.provider,
            reopen,
            image_threads=self.image_threads,
            precision=self.precision,
        )

    def limited(self, max_pixels: int) -> Encoder:
        """Return the same encoder for images of at most this height x width.

        Raises:
            InputError: ``max_pixels`` is not a positive integer.
        """
        extractor = self.extractor.limited(max_pixels)
        reopen = self.reopen and partial(_limited, self.reopen, max_pixels)
        return Encoder(
            self.spec,
            self.encode,
            extractor,
            self.provider,
            reopen,
            image_threads=self.image_threads,
            precision=self.precision,
        )

    def templates(
        self,
        image: ImageLike | LoadedImage | PlacedImage,
        options: SampleOptions | None = None,
        *,
        role: SampleRole = "probe",
    ) -> list[Template]:
        """Return templates of the samples in an image, largest first, at least one.

        Raises:
            ImageError: The image cannot be read.
            AcquisitionError: Nothing usable in it.
            ModelContractError: The network returned a row that is zero or not finite.
            ProviderError: The provider failed.
        """
        return self.templates_each([image], options, role=role)[0]

    def templates_each(
        self,
        images: Sequence[ImageLike | LoadedImage | PlacedImage],
        options: SampleOptions | None = None,
        *,
        role: SampleRole = "probe",
        limit: int | None = None,
    ) -> list[list[Template]]:
        """Return :meth:`templates` of several images, at most ``limit`` of each.

        Samples are looked for in the images at once, and embedded in one run of the network; an error is that
        of the first image that has one.
        """
        extract = partial(self.extractor.samples, options=options, role=role, limit=limit)
        extracted = [result() for result in self.each_at_once(extract, images)]
        rows = iter(self.encode([sample.crop for samples in extracted for sample in samples]))
        return [
            [
                Template(next(rows), self.spec.digest, sample.detection, sample.reasons)
                for sample in samples
            ]
            for samples in extracted
        ]

    def each_at_once(
        self,
        work: Callable[[_AnyImage], _T],
        images: Sequence[_AnyImage],
    ) -> Iterator[Callable[[], _T]]:
        """Yield for each image, in order, a function that returns or raises what ``work`` does with it.

        The images are worked on in :attr:`image_threads` threads, those of the first in this one; one after
        the other if an image is an open file or a Pillow image, which may not be read by several threads.
        """
        if not self._may_be_at_once(images):
            for image in images:
                yield partial(work, image)
            return
        is_shared = 2 * len(images) > self.image_threads
        shared = partial(_sharing_cores, work) if is_shared else work
        pool = kept_pool("verifykit-image", min(self.image_threads, len(images)) - 1)
        others = [
            pool.submit(contextvars.copy_context().run, shared, image) for image in images[1:]
        ]
        try:
            yield partial(shared, images[0])
            for image, other in zip(images[1:], others, strict=True):
                # What no thread has begun is cancelled, and done in this one.
                yield partial(shared, image) if other.cancel() else other.result
        finally:
            wait([other for other in others if not other.cancel()])

    def _may_be_at_once(self, images: Sequence[ImageLike | LoadedImage | PlacedImage]) -> bool:
        kinds = (str, bytes, os.PathLike, np.ndarray, LoadedImage)
        pure = (image.image if isinstance(image, PlacedImage) else image for image in images)
        return (
            self.image_threads > 1
            and len(images) > 1
            and all(isinstance(image, kinds) for image in pure)
        )


def _sharing_cores(work: Callable[[_AnyImage], _T], image: _AnyImage) -> _T:
    with sharing_cores():
        return work(image)


def _reopened(
    reopen: Callable[[], Encoder], digest: str, calibration: Calibration | None = None
) -> Encoder:
    encoder = reopen()
    if encoder.spec.digest != digest:
        raise ModelIntegrityError(
            f"model {shown(encoder.spec.name)} is {encoder.spec.digest[:12]} here, and was {digest[:12]} in "
            "the process that pickled it: bring the same model file to both"
        )
    return encoder if calibration is None else encoder.calibrated(calibration)


def _of_population(reopen: Callable[[], Encoder], name: str) -> Encoder:
    return reopen().of_population(name)


def _limited(reopen: Callable[[], Encoder], max_pixels: int) -> Encoder:
    return reopen().limited(max_pixels)


def _reread(path: Path, digest: str) -> bytes:
    file = modelfile.read(path)
    if file.spec.digest != digest:
        raise ModelIntegrityError(
            f"{shortened(path)}: this is another model than the one that was opened before the fork: "
            "open it again"
        )
    return file.data


def _encode(session: Session, spec: ModelSpec, crops: Sequence[Image]) -> Embeddings:
    embeddings = np.empty((len(crops), spec.embedding_size), dtype=np.float32)
    size = BATCH_SIZES[session.provider]
    for start in range(0, len(crops), size):
        batch = crops[start : start + size]
        rows = _run(session, spec, batch)
        if spec.input.mirror:
            rows = rows + _run(session, spec, [crop[:, ::-1] for crop in batch])
            rows = unit_rows([rows], spec.name, len(batch), spec.embedding_size)
        embeddings[start : start + len(batch)] = rows
    return embeddings


def _run(session: Session, spec: ModelSpec, crops: Sequence[Image]) -> Embeddings:
    outputs = session.run(to_tensor(crops, spec.input))
    return unit_rows(outputs, spec.name, len(crops), spec.embedding_size)


def _require_golden(spec: ModelSpec, encode: Encode, provider: str) -> None:
    """Raise unless the golden embedding is reproduced."""
    golden = golden_image(spec.input.height_px, spec.input.width_px)
    cosine = float(encode([golden])[0] @ np.asarray(spec.golden_embedding, dtype=np.float32))
    if not cosine >= spec.golden_tolerance:
        raise ModelContractError(
            f"model {shown(spec.name)} does not reproduce its golden embedding on {shown(provider)}: cosine "
            f"{cosine:.6f}, required {spec.golden_tolerance}; the provider computes wrong results, or "
            "the file's specification is not that of its network"
        )
