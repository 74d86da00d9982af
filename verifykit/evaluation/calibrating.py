"""Thresholds from a user's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone

import numpy as np

from verifykit import __version__
from verifykit.calibration import Calibration
from verifykit.errors import CalibrationError, InputError
from verifykit.evaluation.comparisons import columns, score_comparisons
from verifykit.evaluation.data import data_digest
from verifykit.evaluation.embedding import Embedded, ModelEmbedder, embed_images, failures
from verifykit.evaluation.embedding_cache import EmbeddingCache
from verifykit.evaluation.pairing import count_pairs
from verifykit.evaluation.points import Measured, measured_points, points_of
from verifykit.evaluation.records import EvaluationData
from verifykit.evaluation.reference_counts import (
    DRAWS,
    REFERENCE_COUNTS,
    Pool,
    ReferenceScores,
)
from verifykit.spec import Attack, Cohort, ModelSpec, OperatingPoint

__all__ = ["calibrate", "default_rate"]

_USUAL_RANDOM_FMR = 1e-3
_HIGHEST_RANDOM_FMR = 1e-2
_SKILLED_FMR = 5e-2
_NEAREST = 100  # of the cohort's scores


def calibrate(
    embedder: ModelEmbedder,
    data: EvaluationData,
    *,
    name: str = "",
    counts: Sequence[int] = REFERENCE_COUNTS,
    cohort: int = 0,
    draws: int = DRAWS,
    seed: int = 0,
    cache: EmbeddingCache | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure operating points and evidence on data.

    Every rate from 1e-1 down to what the non-mated comparisons support, three over their number, for each
    attack and number of references.

    Args:
        embedder: The model, with what it does with several faces and weak samples.
        data: Images, subjects, comparisons. Listed pairs give thresholds of single references only.
        name: What to call the data; empty takes the folder's or file's own name.
        counts: Numbers of references, each at least 1; those with too few subjects are left out.
        cohort: How many subjects, drawn at random, make a cohort that scores are normalised by; they are
            left out of everything else. 0, the default, for bare cosines (docs/adr/0011).
        draws: Sets of references a subject.
        seed: Of every draw.
        cache: Embeddings of earlier runs; None computes everything.
        on_image: Called with the number of images that are done and of all.

    Raises:
        CalibrationError: There are fewer non-mated comparisons than even FMR 0.1 takes, or no image is
            usable.
        InputError: A number of references is below 1, or a cohort of one subject, of more than half of the
            subjects, or for listed pairs is wanted.
        ModelContractError: The network returned a row that is zero or not finite.
        ProviderError: The provider failed.
    """
    if not counts or min(counts) < 1:
        raise InputError(f"numbers of references are at least 1, got {list(counts)}")
    embedded = embed_images(embedder, data.images, cache=cache, on_image=on_image)
    usable = np.flatnonzero(embedded.row_of >= 0).tolist()
    chosen, usable = _drawn_cohort(data, embedded, usable, cohort, seed)
    measured, non_mated = _measure(
        embedder, data, embedded, usable, chosen, (sorted(set(counts)), draws, seed)
    )
    lost = failures(data.images, embedded)
    if not measured.points:
        why = ", ".join(f"{each.count} {each.reason}" for each in lost)
        raise CalibrationError(
            f"{non_mated} non-mated comparisons are too few: FMR 0.1 takes 30, 0.001 takes 3,000, 1e-6 "
            f"three million; {len(usable)} of {len(data.images)} images gave a template"
            f"{f' ({why})' if why else ''}; take more subjects"
        )
    default_fmr, default_attack = default_rate(measured.points, embedder.spec)
    return Calibration(
        model=embedder.spec.name,
        spec_digest=embedder.spec.digest,
        fusion=embedder.spec.fusion,
        operating_points=measured.points,
        evidence=measured.evidence,
        default_fmr=default_fmr,
        default_attack=default_attack,
        data=name or data.source.resolve().name,
        data_digest=data_digest(data, embedded.file_digests),
        subject_count=len({data.images[n].subject for n in usable}),
        image_count=len(usable),
        failures=tuple((each.reason, each.count) for each in lost),
        multi_face=embedder.multi_face,
        quality=embedder.quality,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        verifykit_version=__version__,
        cohort=chosen,
    )


def _drawn_cohort(
    data: EvaluationData, embedded: Embedded, usable: list[int], size: int, seed: int
) -> tuple[Cohort | None, list[int]]:
    """One genuine image each of some subjects, and the images of the others."""
    if size == 0:
        return None, usable
    subjects = sorted({data.images[n].subject for n in usable if not data.images[n].is_forgery})
    if data.pairs is not None or not 2 <= size <= len(subjects) // 2:
        raise InputError(
            f"a cohort of {size} of {len(subjects)} usable subjects: it takes two at least and half of "
            "them at the most, of a folder or a CSV of images"
        )
    taken = set(np.random.default_rng(seed).permutation(subjects)[:size].tolist())
    first: dict[str, int] = {}
    for n in usable:
        if data.images[n].subject in taken and not data.images[n].is_forgery:
            first.setdefault(data.images[n].subject, n)
    rows = embedded.rows[embedded.row_of[sorted(first.values())]]
    left = [n for n in usable if data.images[n].subject not in taken]
    return Cohort.of(rows, min(size, _NEAREST)), left


def _measure(
    embedder: ModelEmbedder,
    data: EvaluationData,
    embedded: Embedded,
    usable: Sequence[int],
    cohort: Cohort | None,
    how: tuple[Sequence[int], int, int],
) -> tuple[Measured, int]:
    """What the data support, and how many random non-mated comparisons of single images there are."""
    counts, draws, seed = how
    if not usable:
        return Measured((), ()), 0
    if data.pairs is None:
        subjects, forged, populations = columns([data.images[n] for n in usable])
        found = measured_points(
            embedded.rows[embedded.row_of[usable]],
            subjects,
            forged,
            embedder.spec.fusion,
            populations=populations,
            cohort=cohort,
            counts=counts,
            draws=draws,
            seed=seed,
        )
        return found, count_pairs(subjects, forged, populations)["random"]
    labels = np.searchsorted(data.subjects, [image.subject for image in data.images])
    scored = score_comparisons(data, embedded)
    pools = [
        Pool(kind.scores, labels[kind.probe], labels[kind.reference])
        for kind in (scored.mated, scored.random, scored.skilled)
    ]
    single = ReferenceScores(1, len(data.subjects), 1, *pools)
    return points_of(single, seed=seed), scored.random.scores.size


def default_rate(
    points: Sequence[OperatingPoint], spec: ModelSpec | None = None
) -> tuple[float | None, Attack]:
    """What a model decides by when nothing is asked for.

    The model's own default rate, if these points support it, and never another attack than its own: 1 in
    20 skilled forgeries is not 1 in 20 strangers. Else against skilled forgeries if they were measured, then
    at 5e-2. Random forgeries happen all the time and to everybody, so their rate must be low; a skilled
    forger is an attacker, who has to exist first and has studied this one subject, and a rate as low as for
    random ones would be paid for by far more genuine samples that are turned away. Against random
    forgeries at the rate nearest to 1e-3 from above.

    Args:
        points: Its operating points; those of the fewest references count, since `compare` and
            `identify` have one.
        spec: The model, if it has a default already.

    Returns:
        The rate and its attack. No rate where no point is as low as 5e-2 for skilled, or 1e-2 for random
        forgeries, so that nobody gets a lenient threshold unasked.
    """

    def rates(attack: Attack) -> list[float]:
        mine = [point for point in points if point.attack == attack]
        fewest = min((point.reference_count for point in mine), default=1)
        return [point.fmr for point in mine if point.reference_count == fewest]

    skilled = any(point.attack == "skilled_forgery" for point in points)
    attack: Attack = "skilled_forgery" if skilled else "random_forgery"
    if spec is not None and spec.default_fmr is not None:
        attack = spec.default_attack
        if min(rates(attack), default=1.0) <= spec.default_fmr * (1 + 1e-9):
            return spec.default_fmr, attack
    if attack == "skilled_forgery":
        highest = _SKILLED_FMR * (1 + 1e-9)
        return max((fmr for fmr in rates(attack) if fmr <= highest), default=None), attack
    highest = _HIGHEST_RANDOM_FMR * (1 + 1e-9)
    usual = [fmr for fmr in rates(attack) if _USUAL_RANDOM_FMR * (1 - 1e-9) <= fmr <= highest]
    return min(usual, default=None), attack
