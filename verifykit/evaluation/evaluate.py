"""Evaluate models on a user's data: everything that a report holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial

import numpy as np
from numpy.typing import NDArray

from verifykit import __version__
from verifykit.datasets import Dataset, left_out_sentences
from verifykit.errors import InputError, shown
from verifykit.evaluation.bands import Bands, measure_bands, read_bands
from verifykit.evaluation.embedding import (
    Embedded,
    Embedder,
    EmbeddingCache,
    ModelLike,
    as_embedder,
    embed_images,
    failures,
    with_further_frames,
)
from verifykit.evaluation.folds import fold_accuracy
from verifykit.evaluation.hardest_pairs import hardest_pairs
from verifykit.evaluation.one_to_one import (
    REPORTED_FMRS,
    AttackScores,
    ListedScores,
    measure_scores,
    rate_of,
)
from verifykit.evaluation.open_set import measure_open_set
from verifykit.evaluation.pairs import (
    ScoredComparisons,
    as_dataset,
    columns,
    count_pairs,
    data_digest,
    listed_scores,
    score_comparisons,
)
from verifykit.evaluation.results import (
    AttackResult,
    Band,
    EvaluationReport,
    Folds,
    ModelResult,
    OpenSetResult,
    RateAtFmr,
    Subgroup,
)
from verifykit.evaluation.subgroups import measure_subgroups
from verifykit.evaluation.tiled_scores import MOST_HELD, TiledComparisons
from verifykit.spec import Attack

_SUBGROUP_FMR = 1e-3


@dataclass(frozen=True)
class Measurement:
    """What to measure.

    Attributes:
        fmrs: False match rates for the tables, in (0, 1).
        open_set: Whether to measure 1:N searches too.
        hardest_pairs: At most so many comparisons of each kind to name.
        seed: Of every draw.
        bands: Columns to report rates by, such as ``"sex"`` or ``"age=0,7,13,18"``.
    """

    fmrs: tuple[float, ...] = REPORTED_FMRS
    open_set: bool = True
    hardest_pairs: int = 12
    seed: int = 0
    bands: tuple[str, ...] = ()


def evaluate(
    models: ModelLike | Embedder | Sequence[ModelLike | Embedder],
    data: Dataset | str | os.PathLike[str],
    *,
    cache: EmbeddingCache | None = None,
    measurement: Measurement | None = None,
    bands: Sequence[str] = (),
    on_progress: Callable[[str, int, int], None] | None = None,
) -> EvaluationReport:
    """Measure models on the same data.

    Args:
        models: One or several: a registered name, the path of a model file, an open encoder, or an embedder
            with options of its own; all with the same ``multi_face`` and ``quality``.
        data: A folder with a folder for each subject, a CSV of images or pairs, LFW's ``pairs.txt``, a
            verification file of insightface (``.bin``), or what :func:`~verifykit.evaluation.read_data` read.
        cache: Embeddings of earlier runs; None computes everything.
        measurement: What to measure; None is everything.
        bands: Columns of a CSV to report the rates by, as measured over requested: a column of values
            (``"sex"``), one of numbers cut at edges (``"age=0,7,13,18"``), or their combinations
            (``"sex+age=0,7,13,18"``). In place of the measurement's, if given.
        on_progress: Called with the model, the number of its images that are done, and of all.

    Returns:
        What was measured; :func:`~verifykit.evaluation.write_report` writes it as a page and as JSON.

    Raises:
        InputError: No model, unreadable data, a band of no column, models with different options, or one
            whose images give no mated or no non-mated comparison; the message counts the failures by reason.
        ModelContractError: A network returned a row that is zero or not finite.
        ProviderError: A provider failed.
    """
    listed = models if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    data = as_dataset(data)
    embedders = [as_embedder(model, is_aligned=data.is_aligned) for model in listed]
    if not embedders:
        raise InputError("there is no model to evaluate: name at least one")
    options = sorted({(embedder.multi_face, embedder.quality) for embedder in embedders})
    if len(options) > 1:
        raise InputError(
            f"models of one report need the same multi_face and quality, got {options}: make them equal"
        )
    what = measurement or Measurement()
    what = replace(what, bands=tuple(bands)) if bands else what
    read_bands(data, what.bands)  # a mistake is found before the long part
    results: list[ModelResult] = []
    digests: tuple[str, ...] = ()
    looked_at = data
    for embedder in embedders:
        count = None if on_progress is None else partial(on_progress, embedder.model)
        embedded = embed_images(embedder, data.images, cache=cache, on_progress=count)
        digests = embedded.file_digests
        looked_at = with_further_frames(data, embedded)
        results.append(measure_model(embedder, looked_at, embedded, what))
    return EvaluationReport(
        data=str(data.source),
        kind=data.kind,
        data_digest=data_digest(data, digests),
        image_count=len(data.images),
        subject_count=len(data.subjects),
        multi_face=options[0][0],
        quality=options[0][1],
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        verifykit_version=__version__,
        models=tuple(results),
        left_out=dict(looked_at.left_out),
        left_out_names=dict(looked_at.left_out_names),
    )


def measure_model(
    embedder: Embedder, data: Dataset, embedded: Embedded, measurement: Measurement
) -> ModelResult:
    """Measure one model on the data that it embedded."""
    labels = data.subject_numbers()
    scored = _scored(embedder, data, embedded, measurement.seed)
    _require_some(embedder, data, embedded, scored)
    kinds: tuple[tuple[Attack, str], ...]
    kinds = (("random_forgery", "random"), ("skilled_forgery", "skilled"))
    attacks = [
        measure_scores(
            attack,
            _against(scored, kind, labels, measurement),
            fmrs=measurement.fmrs,
            own=embedder.operating_points,
        )
        for attack, kind in kinds
        if scored.size(kind)
    ]
    notes = left_out_sentences(data.left_out, data.left_out_names)
    if not data.has_subjects:
        notes.append(
            "The pairs name no subjects: images are taken for one subject's where mated pairs join them, so "
            "that intervals are too narrow where one subject counts as several."
        )
    open_set = _open_set(embedder, data, embedded, labels, measurement, notes)
    subgroups = _subgroups(data, scored, labels, attacks, notes)
    cut = read_bands(data, measurement.bands)
    bands = _banded(data, scored, labels, attacks, (cut, notes))
    failed = embedded.row_of < 0
    return ModelResult(
        model=embedder.model,
        name=embedder.name,
        digest=embedder.digest,
        modality=embedder.modality,
        licence=embedder.licence,
        fusion=embedder.fusion,
        image_count=len(data.images),
        acquired_count=int((~failed).sum()),
        failures=failures(data.images, embedded),
        fta=rate_of(failed, None),
        fte=rate_of(_not_enrolled(data, labels, failed), None),
        lost_mated=scored.lost_mated,
        lost_non_mated=scored.lost_non_mated,
        attacks=tuple(attacks),
        open_set=open_set,
        folds=_folds(data, scored) if isinstance(scored, ScoredComparisons) else None,
        subgroups=subgroups,
        worst=hardest_pairs(data, scored, measurement.hardest_pairs),
        notes=tuple(notes),
        bands=bands,
    )


def _banded(
    data: Dataset,
    scored: ScoredComparisons | TiledComparisons,
    labels: NDArray[np.int64],
    attacks: Sequence[AttackResult],
    how: tuple[Sequence[Bands], list[str]],
) -> tuple[Band, ...]:
    """Return rates by band at the model's own thresholds, or at those of these data if it has none."""
    bands, notes = how
    for each in bands:
        missing = int((each.codes < 0).sum())
        if missing:
            whose = "image" if data.pairs is None else "pair"
            notes.append(
                f"Column {each.column.name}: {missing} of {len(each.codes)} {whose}s without a value are in "
                "no band."
            )
    if bands and isinstance(scored, TiledComparisons):
        notes.append("Pairs of two bands are not reported: there are too many pairs to hold.")
    rates = [a.own or a.rates for a in attacks if a.attack == "random_forgery"]
    return measure_bands(data, scored, labels, rates[0], bands) if rates else ()


def _scored(
    embedder: Embedder, data: Dataset, embedded: Embedded, seed: int
) -> ScoredComparisons | TiledComparisons:
    """Compare: hold the scores, or count them in tiles where there are many."""
    if data.pairs is None and sum(count_pairs(*columns(data.images)).values()) > MOST_HELD:
        return TiledComparisons(data, embedded, embedder.cohort, seed=seed)
    return score_comparisons(data, embedded, embedder.cohort)


def _against(
    scored: ScoredComparisons | TiledComparisons,
    kind: str,
    labels: NDArray[np.int64],
    measurement: Measurement,
) -> AttackScores:
    """Return the mated scores and those of one kind that is not mated."""
    if isinstance(scored, TiledComparisons):
        return scored.scores(kind, measurement.fmrs)
    return ListedScores(scored.mated, getattr(scored, kind), labels, seed=measurement.seed)


def _not_enrolled(
    data: Dataset, labels: NDArray[np.int64], failed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return for each subject with a genuine image whether none of them gave a template."""
    genuine = np.array([not image.is_forgery for image in data.images])
    able = np.isin(np.unique(labels[genuine]), labels[genuine & ~failed])
    return ~able


def _require_some(
    embedder: Embedder,
    data: Dataset,
    embedded: Embedded,
    scored: ScoredComparisons | TiledComparisons,
) -> None:
    others = scored.size("random") + scored.size("skilled")
    if scored.size("mated") and others:
        return
    which = "mated" if others else "non-mated"
    counts = ", ".join(f"{each.count} {each.reason}" for each in failures(data.images, embedded))
    raise InputError(
        f"model {shown(embedder.model)} has no {which} comparison to measure: {len(embedded.rows)} of "
        f"{len(data.images)} images gave a template ({counts or 'no failure'}); it takes two images of "
        "one subject, and two subjects"
    )


def _open_set(
    embedder: Embedder,
    data: Dataset,
    embedded: Embedded,
    labels: NDArray[np.int64],
    measurement: Measurement,
    notes: list[str],
) -> tuple[OpenSetResult, ...]:
    if data.pairs is not None or not measurement.open_set:
        return ()
    usable = np.array([not image.is_forgery for image in data.images]) & (embedded.row_of >= 0)
    found = measure_open_set(
        embedded.rows[embedded.row_of[usable]],
        labels[usable],
        cohort=embedder.cohort,
        seed=measurement.seed,
    )
    if not found:
        notes.append(
            "No 1:N searches: they take 10 subjects with two usable images and 5 more subjects."
        )
    return found


def _subgroups(
    data: Dataset,
    scored: ScoredComparisons | TiledComparisons,
    labels: NDArray[np.int64],
    attacks: Sequence[AttackResult],
    notes: list[str],
) -> tuple[Subgroup, ...]:
    rates: list[RateAtFmr] = [r for a in attacks if a.attack == "random_forgery" for r in a.rates]
    if not rates:
        return ()
    allowed = [rate for rate in rates if rate.requested >= _SUBGROUP_FMR * (1 - 1e-9)] or rates
    found, remarks = measure_subgroups(
        data, scored, labels, min(allowed, key=lambda rate: rate.requested)
    )
    notes.extend(remarks)
    return found


def _folds(data: Dataset, scored: ScoredComparisons) -> Folds | None:
    """Return the accuracy over the folds that the pairs state; None without at least two."""
    pairs = data.pairs or ()
    folds = [pair.fold for pair in pairs if pair.fold is not None]
    if len(folds) != len(pairs) or len(set(folds)) < 2:
        return None
    return fold_accuracy(listed_scores(data, scored), [pair.mated for pair in pairs], folds)
