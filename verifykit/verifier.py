"""The verbs of an application: enroll, verify, compare, identify, extract, remove."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from verifykit.acquisition import require_options
from verifykit.criterion import Criterion
from verifykit.encoder import Encoder
from verifykit.enrollment import as_images, enroll
from verifykit.errors import CalibrationError, InputError
from verifykit.gallery import Gallery, open_gallery
from verifykit.identification import identify_each
from verifykit.models import load
from verifykit.scoring import subject_score
from verifykit.session import Provider
from verifykit.spec import ModelSpec
from verifykit.types import (
    Candidate,
    Decision,
    EnrollmentReport,
    ImageLike,
    MultiFace,
    QualityGate,
    Template,
)

__all__ = ["Verifier"]


class Verifier:
    """Answers whether an image shows the subject that was enrolled.

    Safe to share between threads: its networks are stateless, and its galleries lock themselves.

    Attributes:
        encoder: The model, open.
        gallery: Where subjects are enrolled.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Encoder,
        gallery: str | os.PathLike[str] | Gallery | None = None,
        *,
        fmr: float | None = None,
        threshold: float | None = None,
        multi_face: MultiFace = "error",
        quality: QualityGate = "strict",
        providers: Provider = "auto",
        threads: int | None = None,
    ) -> None:
        """Open a model and a gallery.

        Args:
            model: A registered name (``"face"``), the path of a model file, or an open encoder.
            gallery: A file's path, a gallery, or None for one in memory.
            fmr: False match rate for every decision, in (0, 1); None takes the model's default.
            threshold: A bare cosine threshold in [-1, 1] instead; it stands for no rate.
            multi_face: What to do with several faces in an image: ``"error"``, ``"largest"``, ``"all"``.
            quality: ``"strict"`` refuses weak samples, ``"warn"`` takes and reports them.
            providers: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"openvino"``; a named one is never replaced.
            threads: Threads within one network run; None takes every core. Not with an open encoder.

        Raises:
            ModelError: The model is not found, damaged, or not what it says it is.
            ProviderError: The provider is not there.
            TemplateMismatchError: The gallery was made with another model.
            GalleryError: The gallery cannot be opened.
            CalibrationError: The model does not go down to this ``fmr``.
            InputError: An option is not allowed, or both ``fmr`` and ``threshold`` are given.
        """
        require_options(multi_face, quality)
        if not isinstance(model, Encoder):
            model = Encoder.open(load(model), providers=providers, threads=threads)
        elif threads is not None or providers not in ("auto", model.provider):
            raise InputError(
                f"this encoder is open on {model.provider!r}: give these to Encoder.open"
            )
        self.encoder = model
        self._fmr, self._threshold = fmr, threshold
        self._multi_face, self._quality = multi_face, quality
        if fmr is not None or threshold is not None:
            self._criterion(None, None)
        self.gallery = open_gallery(gallery, self.encoder.spec)

    @property
    def spec(self) -> ModelSpec:
        """What the model says about itself."""
        return self.encoder.spec

    def enroll(
        self,
        subject_id: str,
        images: ImageLike | Iterable[ImageLike],
        metadata: Mapping[str, Any] | None = None,
        *,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
        fmr: float | None = None,
        threshold: float | None = None,
    ) -> EnrollmentReport:
        """Store templates of a subject; durable when this returns. More images may be added later.

        Args:
            subject_id: Any text of 1 to 255 UTF-8 bytes without control characters.
            images: One image or several.
            metadata: JSON-ready values stored with the subject; None leaves what is there.
            multi_face: ``"error"`` or ``"largest"``; None takes the verifier's.
            quality: ``"strict"`` or ``"warn"``; None takes the verifier's.
            fmr: Rate whose threshold the warnings about likeness use.
            threshold: A bare threshold for those warnings instead.

        Returns:
            What was taken and refused, and warnings: images that disagree, a look-alike enrolled.

        Raises:
            InputError: The subject id, ``metadata`` or an option is not allowed.
            AcquisitionError, ImageError: No image is usable, or can be read; nothing was stored.
            GalleryError: The gallery could not store them; nothing was stored.
            CalibrationError: The model does not go down to this ``fmr``.
        """
        try:
            likeness: float | None = self._criterion(fmr, threshold).threshold
        except CalibrationError:
            if fmr is not None:
                raise
            likeness = None  # an uncalibrated model can enrol; it only cannot judge likeness
        return enroll(
            self.encoder,
            self.gallery,
            subject_id,
            as_images(images),
            metadata,
            threshold=likeness,
            multi_face=multi_face or self._multi_face,
            quality=quality or self._quality,
        )

    def verify(
        self,
        subject_id: str,
        image: ImageLike,
        *,
        fmr: float | None = None,
        threshold: float | None = None,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
    ) -> Decision:
        """Is this the subject enrolled under this id?

        Args:
            subject_id: Who is claimed.
            image: The probe.
            fmr: False match rate for this call, in (0, 1).
            threshold: A bare cosine threshold in [-1, 1] instead.
            multi_face: For this call; with ``"all"`` the best face decides, and ``fmr`` is that of each face.
            quality: For this call.

        Returns:
            The decision; its truth value is ``match``.

        Raises:
            SubjectNotFoundError: Nobody is enrolled under this id.
            AcquisitionError, ImageError: Nothing usable in the image, or it cannot be read.
            CalibrationError: The model does not go down to this ``fmr``.
            InputError: Both ``fmr`` and ``threshold``, or one out of range.
        """
        criterion = self._criterion(fmr, threshold)
        references = self.gallery.get(subject_id).templates
        (probes,) = self._templates([image], multi_face, quality)
        embeddings = np.stack([reference.embedding for reference in references])
        scores = [subject_score(p.embedding, embeddings, self.spec.fusion) for p in probes]
        best = int(np.argmax(scores))
        return criterion.decide(scores[best], subject_id, [probes[best]])

    def compare(
        self,
        probe: ImageLike,
        reference: ImageLike,
        *,
        fmr: float | None = None,
        threshold: float | None = None,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
    ) -> Decision:
        """Do two images show the same subject? Nothing is stored.

        Args:
            probe: One image.
            reference: The other; the score does not depend on their order.
            fmr: False match rate for this call, in (0, 1).
            threshold: A bare cosine threshold in [-1, 1] instead.
            multi_face: For this call; with ``"all"`` the best pair decides, and ``fmr`` is that of each pair.
            quality: For this call.

        Returns:
            The decision, with both detections: the probe's first.

        Raises:
            AcquisitionError, ImageError: Nothing usable in an image, or it cannot be read.
            CalibrationError: The model does not go down to this ``fmr``.
            InputError: Both ``fmr`` and ``threshold``, or one out of range.
        """
        criterion = self._criterion(fmr, threshold)
        probes, references = self._templates([probe, reference], multi_face, quality)
        pairs = [(p, r) for p in probes for r in references]
        scores = [subject_score(p.embedding, r.embedding[None], "max") for p, r in pairs]
        best = int(np.argmax(scores))
        return criterion.decide(scores[best], None, pairs[best])

    def identify(
        self,
        image: ImageLike,
        *,
        limit: int = 5,
        fmr: float | None = None,
        threshold: float | None = None,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
    ) -> list[Candidate]:
        """Who is this? (1:N) Best first, only those over the threshold; empty when nobody is.

        Args:
            image: The probe.
            limit: At most so many candidates for each face.
            fmr: False match rate of one comparison, in (0, 1); a gallery of N makes N of them.
            threshold: A bare cosine threshold in [-1, 1] instead.
            multi_face: For this call; with ``"all"`` each candidate's ``detection`` says whose it is.
            quality: For this call.

        Returns:
            Candidates, best first.

        Raises:
            AcquisitionError, ImageError: Nothing usable in the image, or it cannot be read.
            CalibrationError: The model does not go down to this ``fmr``.
            InputError: Both ``fmr`` and ``threshold``, or one out of range, or ``limit`` below 1.
        """
        answers = identify_each(
            self.encoder,
            self.gallery,
            image,
            criterion=self._criterion(fmr, threshold),
            limit=limit,
            multi_face=multi_face or self._multi_face,
            quality=quality or self._quality,
        )
        candidates = [candidate for answer in answers for candidate in answer.candidates]
        return sorted(candidates, key=lambda candidate: -candidate.score)

    def extract(
        self,
        image: ImageLike,
        *,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
    ) -> Template:
        """The template of an image: a (D,) float32 unit embedding with its model's digest.

        Args:
            image: A path, encoded bytes, an open binary file, or a uint8 RGB array.
            multi_face: ``"error"`` or ``"largest"``; with ``"all"`` too it is the largest.
            quality: For this call.

        Raises:
            AcquisitionError, ImageError: Nothing usable in the image, or it cannot be read.
        """
        return self._templates([image], multi_face, quality)[0][0]

    def remove(self, subject_id: str) -> int:
        """Erase a subject: all templates and metadata.

        Args:
            subject_id: Who.

        Returns:
            How many templates were erased.

        Raises:
            SubjectNotFoundError: Nobody is enrolled under this id.
            GalleryError: The gallery could not be written.
        """
        return self.gallery.remove(subject_id)

    def _templates(
        self, images: Sequence[ImageLike], multi_face: MultiFace | None, quality: QualityGate | None
    ) -> list[list[Template]]:
        return self.encoder.templates_each(
            images, multi_face=multi_face or self._multi_face, quality=quality or self._quality
        )

    def _criterion(self, fmr: float | None, threshold: float | None) -> Criterion:
        if fmr is None and threshold is None:
            fmr, threshold = self._fmr, self._threshold
        return Criterion.of(self.spec, fmr, threshold)
