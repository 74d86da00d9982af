"""A model as an evaluation uses it: one embedding an image, of a face that is chosen by a rule."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from verifykit import __version__
from verifykit.acquisition import require_options
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError, InputError
from verifykit.evaluation.records import FaceChoice
from verifykit.image import load_image
from verifykit.spec import ModelSpec, OperatingPoint
from verifykit.types import Image, ImageLike, QualityGate, Sample

__all__ = ["ModelEmbedder", "middle"]


class ModelEmbedder:
    """A model with the options of an evaluation.

    Attributes:
        spec: What the model says about itself.
        model: The model as it was asked for.
        multi_face: What is done with several faces.
        quality: Whether a quality reason refuses a sample or is passed over.
        name: Its own name.
        digest: Digest of weights, input and crop.
        modality: What it compares.
        licence: SPDX identifier.
        fusion: How scores against several references become one.
        cache_key: SHA-256 in hexadecimal over everything that an embedding depends on besides the image.
        operating_points: Its own thresholds for cosines, one for every decade of FMR and for its default
            rate; none where scores are normalised by a cohort.
    """

    def __init__(
        self,
        encoder: Encoder,
        model: str,
        *,
        multi_face: FaceChoice = "error",
        quality: QualityGate = "strict",
    ) -> None:
        """Take a model and what to do with its images.

        Args:
            encoder: The model, open.
            model: The model as it was asked for: a registered name or a path.
            multi_face: What to do with several faces.
            quality: ``"strict"`` refuses a sample with a quality reason, ``"warn"`` takes it.

        Raises:
            InputError: Unknown ``multi_face`` or ``quality``.
        """
        if multi_face not in get_args(FaceChoice):
            raise InputError(
                f"multi_face must be one of {get_args(FaceChoice)}, got {multi_face!r}"
            )
        require_options("all", quality)
        self._encoder = encoder
        self.model = model
        self.multi_face = multi_face
        self.quality = quality
        self.spec = encoder.spec
        self.name = encoder.spec.name
        self.digest = encoder.spec.digest
        self.modality: str = encoder.spec.modality
        self.licence = encoder.spec.licence
        self.fusion: str = encoder.spec.fusion
        self.cache_key = _cache_key(encoder, multi_face, quality)
        self.operating_points = _shown_points(encoder.spec)

    def crop(self, image: ImageLike, /) -> Image:
        """The crop of the one sample in an image.

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
        pixels = load_image(image)
        acquisition = self._encoder.acquisition
        if self.multi_face != "middle":
            return acquisition.samples(pixels, multi_face=self.multi_face, quality=self.quality)[
                0
            ].crop
        samples = acquisition.samples(pixels, multi_face="all", quality="warn")
        sample = middle(samples, *pixels.shape[:2])
        if sample.reasons and self.quality == "strict":
            raise AcquisitionError(
                f"the face nearest the middle is not usable ({', '.join(sample.reasons)}); take "
                "another picture, or accept it with quality='warn'",
                reason=sample.reasons[0],
            )
        return sample.crop

    def embed(self, image: ImageLike, /) -> NDArray[np.float32]:
        """The embedding of the one sample in an image: that of :meth:`crop`.

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


def _shown_points(spec: ModelSpec) -> Sequence[OperatingPoint]:
    if spec.cohort is not None:
        return ()

    def is_shown(point: OperatingPoint) -> bool:
        power = math.log10(point.fmr)
        is_default = (point.fmr, point.attack) == (spec.default_fmr, spec.default_attack)
        return is_default or math.isclose(power, round(power), abs_tol=1e-6)

    return tuple(filter(is_shown, spec.operating_points))


def middle(samples: Sequence[Sample], height_px: int, width_px: int) -> Sample:
    """The sample whose box lies nearest the middle of its picture.

    Args:
        samples: At least one.
        height_px: Of the picture.
        width_px: Of the picture.
    """

    def off_centre(sample: Sample) -> float:
        if sample.detection is None:
            return 0.0
        left, top, width, height = sample.detection.box_px
        return math.hypot(left + (width - width_px) / 2, top + (height - height_px) / 2)

    return min(samples, key=off_centre)


def _cache_key(encoder: Encoder, multi_face: FaceChoice, quality: QualityGate) -> str:
    depends_on = [
        encoder.spec.digest,
        multi_face,
        quality,
        repr(encoder.acquisition.limits),
        repr(encoder.acquisition.signature_limits),
        __version__,
        encoder.provider,
    ]
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
