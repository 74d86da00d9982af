"""The API of an application: enroll, verify, compare, identify, extract, remove."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import numpy as np

from verifykit._given_faces import AnyFaces, PlacedImage, one_given_face, placed, placed_each
from verifykit.calibration import Calibration
from verifykit.decision import DecisionOptions, DecisionRule, Policy
from verifykit.drift import ScoreWatch
from verifykit.encoder import Encoder
from verifykit.enrollment import FacesOfImages, IfEnrolled, as_images, checked_keep_crops, enroll
from verifykit.errors import InputError, shown
from verifykit.extraction import SampleOptions
from verifykit.gallery import Gallery, KeySource, checked_question, open_gallery, searcher
from verifykit.gallery.base import stored_subject_id
from verifykit.models import load, registered
from verifykit.scoring import score_matrix, subject_score
from verifykit.session import Precision, Provider
from verifykit.spec import Attack, Cohort, Fusion, ModelSpec
from verifykit.types import (
    Candidate,
    Decision,
    EnrollmentReport,
    Identification,
    ImageLike,
    MultiFace,
    QualityGate,
    SampleRole,
    Subject,
    Template,
    TurnedChoice,
)


def decide_subject(
    rule: DecisionRule,
    fusion: Fusion,
    subject: Subject,
    probes: Sequence[Template],
    cohort: Cohort | None = None,
) -> Decision:
    """Return the decision about the probe that is most like the subject.

    ``rule`` is that of the subject's number of references.
    """
    rows = np.stack([reference.embedding for reference in subject.templates])
    scores = [subject_score(probe.embedding, rows, fusion, cohort) for probe in probes]
    best = int(np.argmax(scores))
    return rule.decide(
        scores[best],
        subject.subject_id,
        [probes[best]],
        reference_count=len(rows),
    )


def decide_pair(
    rule: DecisionRule,
    probes: Sequence[Template],
    references: Sequence[Template],
    cohort: Cohort | None = None,
) -> Decision:
    """Return the decision about the most alike pair of two images' samples; symmetric."""
    scores = score_matrix(
        [probe.embedding for probe in probes],
        [reference.embedding for reference in references],
        cohort,
    )
    row, column = divmod(int(np.argmax(scores)), len(references))
    return rule.decide(float(scores[row, column]), None, (probes[row], references[column]))


def identify_each(
    encoder: Encoder,
    gallery: Gallery,
    image: ImageLike | PlacedImage,
    *,
    rule: DecisionRule,
    limit: int,
    options: SampleOptions,
    watch: ScoreWatch | None = None,
) -> list[Identification]:
    """Search for every sample of an image, largest first; a result may have no candidates.

    One threshold applies to the whole gallery, however many references a subject has: the strictest
    (:meth:`~verifykit.spec.ModelSpec.operating_point` for any number of references). A
    threshold for each subject would need a search without a limit, since a best candidate below
    its own threshold may hide a lower one that reaches its own.

    ``watch`` counts the scores of the probes against others, without the best candidate.
    """
    checked_question(limit, rule.threshold)
    probes = encoder.templates(image, options)
    embeddings = np.stack([probe.embedding for probe in probes])
    found = searcher(gallery, encoder.spec)(embeddings, limit, rule.threshold)
    if watch is not None:
        best = [candidates[0].subject_id if candidates else None for candidates in found]
        watch.record(gallery, embeddings, best)
    thresholds: dict[str, Any] = {**rule.search_values(), "gallery_size": rule.gallery_size}
    return [
        Identification(
            detection=probe.detection,
            reasons=probe.reasons,
            candidates=tuple(
                replace(candidate, **thresholds, detection=probe.detection, warnings=probe.reasons)
                for candidate in candidates
            ),
            **thresholds,
        )
        for probe, candidates in zip(probes, found, strict=True)
    ]


def open_encoder(
    model: str | os.PathLike[str] | Encoder,
    calibration: str | os.PathLike[str] | Calibration | None = None,
    *,
    providers: Provider = "auto",
    threads: int | None = None,
    precision: Precision = "fp32",
    max_pixels: int | None = None,
    population: str | None = None,
) -> Encoder:
    """Open a model by name or path, unless it is an encoder, with a calibration in place of its own.

    ``population`` names the thresholds to take, of the calibration or else of the model.

    Raises:
        InputError: Providers, threads or precision for an encoder that is open on something else, or
            ``max_pixels``.
        ModelError, ProviderError, CalibrationError: As :class:`Verifier`.
    """
    if not isinstance(model, Encoder):
        name = model
        network: dict[str, Any] = {
            "providers": providers,
            "threads": threads,
            "precision": precision,
        }
        model = Encoder.open(load(name), **network)
        if name in registered():
            model.reopen = partial(open_encoder, name, **network)
    elif (
        threads is not None
        or providers not in ("auto", model.provider)
        or precision not in ("fp32", model.precision)
    ):
        raise InputError(
            f"this encoder is open on {shown(model.provider)} in {model.precision}: give these to "
            "Encoder.open"
        )
    if max_pixels is not None:
        model = model.limited(max_pixels)
    if calibration is not None:
        model = model.calibrated(calibration)
    return model if population is None else model.of_population(population)


class Verifier:
    """Decide whether an image shows an enrolled subject.

    Safe to share between threads: its networks are stateless, and its galleries lock themselves. May be
    opened before ``fork``. Its pickle holds the model's name or path, the gallery's place and the options,
    and opens them again; the unpickling process needs the same files.

    Attributes:
        encoder: The open model.
        gallery: Where subjects are enrolled.
        decision_options: Decision options of calls that give none.
        sample_options: Sample options of calls that give none.
        watch: Counts the scores of probes against others; None if they are not watched.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Encoder,
        gallery: str | os.PathLike[str] | Gallery | None = None,
        *,
        fmr: float | None = None,
        threshold: float | None = None,
        attack: Attack | None = None,
        policy: Policy | None = None,
        calibration: str | os.PathLike[str] | Calibration | None = None,
        multi_face: MultiFace = "error",
        quality: QualityGate = "strict",
        turned: TurnedChoice = "upright",
        max_faces: int = 64,
        providers: Provider = "auto",
        threads: int | None = None,
        key: KeySource | None = None,
        keep_crops: bool = False,
        max_pixels: int | None = None,
        precision: Precision = "fp32",
        population: str | None = None,
        second_face_share: float = 0.25,
        watch: str | os.PathLike[str] | ScoreWatch | None = None,
    ) -> None:
        """Open a model and a gallery.

        Args:
            model: A registered name (``"face"``), the path of a model file, or an open encoder.
            gallery: A file's path, a ``postgresql://`` URL, a gallery, or None for one in memory.
            fmr: False match rate for every decision, in (0, 1); None takes the model's default.
            threshold: A bare score threshold in [-1, 1] instead of a rate.
            attack: ``"random_forgery"``, ``"skilled_forgery"`` (imitations) or None, the model's default.
            policy: Two rates and a review zone between them, instead of ``fmr`` or ``threshold``.
            calibration: From your own images (``verifykit calibrate``), in place of the model's own.
            multi_face: What to do with several faces in an image: ``"error"``, ``"largest"``, ``"all"``.
            quality: ``"strict"`` refuses weak samples, ``"warn"`` accepts and reports them. Of a probe, some
                reasons only warn with ``"strict"`` too, such as ``covered`` and ``extreme_pose``.
            turned: ``"upright"`` turns a face that is on its side or upside down, ``"error"`` refuses it.
            max_faces: With ``multi_face="all"``, the number of faces that are used, the largest; 1 to 1000.
            providers: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"openvino"``; a named one is never replaced.
            threads: Threads within one network run; None uses every core. Not with an open encoder.
            key: Key of an encrypted gallery file: see :class:`~verifykit.SqliteGallery`.
            keep_crops: Store the part of each enrolled image that another model may need; encrypted only.
            max_pixels: Refuse images of more pixels, height x width; None is 100,000,000, or the encoder's.
            precision: ``"bf16"`` runs the encoder in bfloat16, on OpenVINO; refused where it cannot.
            population: ``"any"`` decides by thresholds chosen so that every measured band keeps the rate;
                None by the usual ones.
            second_face_share: With ``multi_face="error"``, a further face counts from this share of the
                largest one's area, in [0, 1]; 0 counts every one.
            watch: File of counts of non-mated scores, by which ``verify`` and ``identify`` find out whether a
                stated rate still holds: see :class:`~verifykit.drift.ScoreWatch`. None counts nothing.

        Raises:
            ModelError, ProviderError: The model or its provider is missing or damaged.
            GalleryError, TemplateMismatchError: The gallery cannot be opened, or belongs to another model.
            CalibrationError: ``calibration`` is of another model, or does not reach down to this ``fmr``;
                there are no thresholds of this ``population``; or the model is not calibrated for random
                forgeries, and ``watch`` is given.
            InputError: An option is not allowed, ``watch`` is of another calibration, or two of ``fmr``,
                ``threshold`` and ``policy`` are given.
        """
        self.sample_options = SampleOptions(
            multi_face, quality, turned, max_faces, second_face_share
        )
        self.decision_options = DecisionOptions(fmr, threshold, attack, policy)
        self.encoder = open_encoder(
            model,
            calibration,
            providers=providers,
            threads=threads,
            precision=precision,
            max_pixels=max_pixels,
            population=population,
        )
        self.decision_options.require_possible(self.spec)
        self.gallery = open_gallery(gallery, self.encoder.spec, key=key)
        self._keep_crops = checked_keep_crops(keep_crops, self.gallery)
        if watch is not None and not isinstance(watch, ScoreWatch):
            watch = ScoreWatch(self.spec, watch, self.decision_options)
        self.watch = watch

    @property
    def spec(self) -> ModelSpec:
        """Return the specification in the model file."""
        return self.encoder.spec

    def enroll(
        self,
        subject_id: str,
        images: ImageLike | Iterable[ImageLike],
        metadata: Mapping[str, Any] | None = None,
        *,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
        turned: TurnedChoice | None = None,
        max_faces: int | None = None,
        fmr: float | None = None,
        threshold: float | None = None,
        attack: Attack | None = None,
        on_existing: IfEnrolled = "append",
        second_face_share: float | None = None,
        faces: FacesOfImages = None,
        look_alikes: bool = True,
    ) -> EnrollmentReport:
        """Store templates of a subject; durable when this returns. More images may be added later.

        Args:
            subject_id: Text of 1 to 255 UTF-8 bytes without invisible characters and outer white space;
                stored in normalization form C. See :func:`~verifykit.gallery.checked_subject_id`.
            images: One image or several.
            metadata: JSON-ready values stored with the subject; None leaves stored metadata unchanged.
            multi_face: ``"error"`` or ``"largest"``; None takes the verifier's.
            quality: ``"strict"`` or ``"warn"``; None takes the verifier's.
            turned: ``"upright"`` or ``"error"``; None takes the verifier's.
            max_faces: Without effect here: at most one face of an image is enrolled.
            fmr: Rate whose threshold, that of a single pair, the warnings about likeness use.
            threshold: A bare threshold for those warnings instead.
            attack: What the rate is about; None takes the verifier's.
            on_existing: ``"append"`` to an enrolled subject, or ``"error"``.
            second_face_share: For this call.
            faces: Where the face of each image is, as for :meth:`verify`; None where the detector finds it.
            look_alikes: Whether to count the enrolled subjects who nearly reach the threshold: those who
                reach the threshold of ten times the rate.

        Returns:
            What was accepted and refused, warnings (images that disagree, a look-alike enrolled), and the
            number of look-alikes.

        Raises:
            InputError: The subject id, ``metadata`` or an option is not allowed.
            AcquisitionError, ImageError: No image is usable, or can be read; nothing was stored.
            SubjectExistsError, GalleryError: The gallery could not store them; nothing was stored.
            CalibrationError: The model is not calibrated down to this ``fmr`` for this ``attack``.
        """
        decision = DecisionOptions(fmr, threshold, attack)
        near = decision.margin_threshold(self.spec, self.decision_options) if look_alikes else None
        return enroll(
            self.encoder,
            self.gallery,
            subject_id,
            as_images(images),
            metadata,
            threshold=decision.pair_threshold(self.spec, self.decision_options),
            options=self.sample_options.changed(
                multi_face=multi_face,
                quality=quality,
                turned=turned,
                max_faces=max_faces,
                second_face_share=second_face_share,
            ),
            on_existing=on_existing,
            keep_crops=self._keep_crops,
            faces=faces,
            near=near,
        )

    def verify(
        self,
        subject_id: str,
        image: ImageLike,
        *,
        fmr: float | None = None,
        threshold: float | None = None,
        attack: Attack | None = None,
        policy: Policy | None = None,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
        turned: TurnedChoice | None = None,
        max_faces: int | None = None,
        second_face_share: float | None = None,
        faces: AnyFaces | None = None,
    ) -> Decision:
        """Verify a claim (1:1): return whether an image shows the subject enrolled under an id.

        Args:
            subject_id: The claimed subject.
            image: The probe.
            fmr: False match rate for this call, in (0, 1), with as many references as the subject has.
            threshold: A bare score threshold in [-1, 1] instead.
            attack: What the rate is about; None takes the verifier's.
            policy: Two rates and a review zone instead.
            multi_face: For this call; with ``"all"`` the best face decides, and ``fmr`` is that of each face.
            quality: For this call.
            turned: For this call.
            max_faces: For this call.
            second_face_share: For this call.
            faces: Where the face is, if the detector misses it: a box (left, top, width, height), near which
                the detector looks again, or five landmarks, by which it is aligned, or a :class:`Detection`;
                in pixels of the upright image. Of several the best decides.

        Returns:
            The decision; its truth value is ``match``.

        Raises:
            SubjectNotFoundError: The subject is not enrolled.
            AcquisitionError, ImageError: Nothing usable in the image, or it cannot be read.
            CalibrationError: The model is not calibrated down to this ``fmr`` for this ``attack``.
            InputError: Two of ``fmr``, ``threshold`` and ``policy``, or one not allowed.
        """
        options = DecisionOptions(fmr, threshold, attack, policy).over(self.decision_options)
        subject = self.gallery.get(stored_subject_id(self.gallery, subject_id))
        rule = options.rule(self.spec, references=len(subject.templates))
        (probes,) = self._templates(
            [placed(image, faces)],
            multi_face=multi_face,
            quality=quality,
            turned=turned,
            max_faces=max_faces,
            second_face_share=second_face_share,
        )
        decision = decide_subject(rule, self.spec.fusion, subject, probes, self.spec.cohort)
        if self.watch is not None:
            rows = np.stack([probe.embedding for probe in probes])
            self.watch.record(self.gallery, rows, [subject.subject_id] * len(rows))
        return decision

    def compare(
        self,
        probe: ImageLike,
        reference: ImageLike,
        *,
        fmr: float | None = None,
        threshold: float | None = None,
        attack: Attack | None = None,
        policy: Policy | None = None,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
        turned: TurnedChoice | None = None,
        max_faces: int | None = None,
        second_face_share: float | None = None,
        faces: Sequence[AnyFaces | None] | None = None,
    ) -> Decision:
        """Compare two images: return whether they show the same subject. Nothing is stored.

        Args:
            probe: One image.
            reference: The other; the score does not depend on their order.
            fmr: False match rate for this call, in (0, 1).
            threshold: A bare score threshold in [-1, 1] instead.
            attack: What the rate is about; None takes the verifier's.
            policy: Two rates and a review zone instead.
            multi_face: For this call; with ``"all"`` the best pair decides, and ``fmr`` is that of each pair.
            quality: For this call.
            turned: For this call.
            max_faces: For this call.
            second_face_share: For this call.
            faces: Where the faces are, as for :meth:`verify`: those of ``probe``, then those of
                ``reference``; None where the detector finds them.

        Returns:
            The decision, with both detections: the probe's first.

        Raises:
            AcquisitionError, ImageError: Nothing usable in an image, or it cannot be read.
            CalibrationError: The model is not calibrated down to this ``fmr`` for this ``attack``.
            InputError: Two of ``fmr``, ``threshold`` and ``policy``, or one not allowed.
        """
        options = DecisionOptions(fmr, threshold, attack, policy).over(self.decision_options)
        rule = options.rule(self.spec)
        probes, references = self._templates(
            placed_each((probe, reference), faces),
            multi_face=multi_face,
            quality=quality,
            turned=turned,
            max_faces=max_faces,
            second_face_share=second_face_share,
        )
        return decide_pair(rule, probes, references, self.spec.cohort)

    def identify(
        self,
        image: ImageLike,
        *,
        limit: int = 5,
        fmr: float | None = None,
        threshold: float | None = None,
        attack: Attack | None = None,
        fpir: float | None = None,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
        turned: TurnedChoice | None = None,
        max_faces: int | None = None,
        second_face_share: float | None = None,
        faces: AnyFaces | None = None,
    ) -> list[Candidate]:
        """Identify a probe (1:N): return candidates over the threshold, best first; may be empty.

        Args:
            image: The probe.
            limit: Maximum number of candidates for each face, at least 1.
            fmr: False match rate of one comparison, in (0, 1), with any number of references.
            threshold: A bare score threshold in [-1, 1] instead.
            attack: What the rate is about; None takes the verifier's.
            fpir: Rate of searches here that find a wrong subject, ``1 - (1 - fmr)^N``, instead of ``fmr``.
            multi_face: For this call; with ``"all"`` each candidate's ``detection`` names its face.
            quality: For this call.
            turned: For this call.
            max_faces: For this call.
            second_face_share: For this call.
            faces: Where the faces are, as for :meth:`verify`; each is searched for.

        Raises:
            AcquisitionError, ImageError: Nothing usable in the image, or it cannot be read.
            CalibrationError: The model is not calibrated down to this ``fmr`` for this ``attack``.
            InputError: Two of ``fmr``, ``threshold`` and ``fpir``, one not allowed, or ``limit`` below 1.
        """
        options = DecisionOptions(fmr, threshold, attack, fpir=fpir)
        results = identify_each(
            self.encoder,
            self.gallery,
            placed(image, faces),
            rule=options.search_rule(self.spec, self.decision_options, len(self.gallery)),
            limit=limit,
            options=self.sample_options.changed(
                multi_face=multi_face,
                quality=quality,
                turned=turned,
                max_faces=max_faces,
                second_face_share=second_face_share,
            ),
            watch=self.watch,
        )
        candidates = [candidate for result in results for candidate in result.candidates]
        return sorted(candidates, key=lambda candidate: -candidate.score)

    def extract(
        self,
        image: ImageLike,
        *,
        multi_face: MultiFace | None = None,
        quality: QualityGate | None = None,
        turned: TurnedChoice | None = None,
        max_faces: int | None = None,
        second_face_share: float | None = None,
        faces: AnyFaces | None = None,
        role: SampleRole = "enrollment",
    ) -> Template:
        """Return the template of an image: a (D,) float32 unit embedding with its model's digest.

        Args:
            image: A path, encoded bytes, an open binary file, or a uint8 RGB array.
            multi_face: ``"error"`` or ``"largest"``; with ``"all"`` too it is the largest.
            quality: For this call.
            turned: For this call.
            max_faces: For this call.
            second_face_share: For this call.
            faces: Where the face is, as for :meth:`verify`; one.
            role: What the template is for: ``"enrollment"``, to be stored, with the limits of :meth:`enroll`;
                or ``"probe"``, with those of :meth:`verify`.

        Raises:
            AcquisitionError, ImageError: Nothing usable in the image, or it cannot be read.
            InputError: An option is not allowed.
        """
        if role not in get_args(SampleRole):
            raise InputError(f"role must be one of {get_args(SampleRole)}, got {shown(role)}")
        options = self.sample_options.changed(
            multi_face=multi_face,
            quality=quality,
            turned=turned,
            max_faces=max_faces,
            second_face_share=second_face_share,
        )
        located = image if faces is None else PlacedImage(image, (one_given_face(faces),))
        return self.encoder.templates_each([located], options, role=role, limit=1)[0][0]

    def remove(self, subject_id: str) -> int:
        """Erase a subject: all templates and metadata.

        Args:
            subject_id: The subject to erase.

        Returns:
            Number of templates that were erased.

        Raises:
            SubjectNotFoundError, GalleryError: Not enrolled, or the gallery could not be written.
        """
        return self.gallery.remove(stored_subject_id(self.gallery, subject_id))

    def _templates(
        self, images: Sequence[ImageLike | PlacedImage], **options: Any
    ) -> list[list[Template]]:
        return self.encoder.templates_each(images, self.sample_options.changed(**options))
