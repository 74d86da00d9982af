"""Measure a run's weights: error rates over pairs, accuracy on given pairs, classification.

Pairs, rates and folds are those of `verifykit.evaluation`; here is what torch adds: a network in place of
a model file, and the parts of the data that a run was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from verifykit.datasets import Dataset
from verifykit.errors import shortened, shown
from verifykit.evaluation.embedding import Embedded
from verifykit.evaluation.folds import fold_accuracy
from verifykit.evaluation.one_to_one import measure_attack, supported
from verifykit.evaluation.pair_tiles import PairTiles
from verifykit.evaluation.pairs import (
    Comparisons,
    ScoredComparisons,
    listed_scores,
    read_data,
    score_comparisons,
)
from verifykit.evaluation.results import AttackResult
from verifykit.evaluation.tiles import PairCounts, ScoreBins
from verifykit_training.batches import CropDataset, Plan, build_loader
from verifykit_training.config import Config
from verifykit_training.dataset import Record, as_data_error, read_records
from verifykit_training.encoders import EmbeddingNetwork
from verifykit_training.errors import DataError
from verifykit_training.learner import Learner, encoder_of, input_of
from verifykit_training.preparation import crop_records, digests_for
from verifykit_training.run_folder import RunFolder, load_weights
from verifykit_training.stages import Stages, stage
from verifykit_training.trained_on import TrainedOn, of_split, separate

Part: TypeAlias = Literal["held_out", "train", "validation", "test", "all"]

FMRS = (1e-1, 1e-2, 1e-3, 1e-4)
_FOLDS = 10
_NAMED = 5


@torch.inference_mode()
def embed(
    encoder: nn.Module,
    dataset: CropDataset,
    *,
    batch_size: int,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Return (N, D) embeddings of a dataset without augmentation; the encoder's mode is put back."""
    device = next(encoder.parameters()).device
    rows = range(len(dataset))
    plans = [Plan(rows[at : at + batch_size], 0) for at in range(0, len(rows), batch_size)]
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    parts: list[NDArray[np.float32]] = []
    done = 0
    try:
        for batch in build_loader(dataset, plans, workers):
            parts.append(encoder(batch.images.to(device)).float().cpu().numpy())
            done += len(batch.images)
            if progress:
                progress(done)
    finally:
        for module, mode in modes:
            module.training = mode
    return np.concatenate(parts)


def load_encoder(run: RunFolder, *, untrained: bool = False) -> tuple[EmbeddingNetwork, Config]:
    """Return a run's network in eval mode (or as it was before its first step), and its configuration."""
    config = run.read_config()
    torch.manual_seed(config.seed)
    if untrained:
        return encoder_of(config).eval(), config
    encoder = encoder_of(config, weights="none")
    load_weights(run.weights, encoder)
    return encoder.eval(), config


def records_of(
    run: RunFolder,
    data: Path,
    part: Part,
    cache: Path | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    stages: Stages | None = None,
) -> list[Record]:
    """Return a part of some data as the run divided it: images and subjects are found by content.

    ``"held_out"`` are the subjects that were neither trained nor validated on.
    """
    records = read_records(data)
    if part == "all":
        return records
    trained = run.read_trained_on()
    digests = digests_for(trained, records, cache, stages=stages)
    if part == "held_out":
        found = separate(trained, records, digests, ("train", "validation"))
        chosen = found.unseen
        for sentence in found.sentences:
            say(sentence)
    else:
        chosen = of_split(trained, records, digests, part)
    if not chosen:
        raise DataError(
            f"{shortened(data)} has no subject in part {shown(part)} of this run: train with "
            "data.test_share, give other data, or choose another --part"
        )
    return chosen


def embed_records(
    encoder: nn.Module,
    config: Config,
    records: Sequence[Record],
    cache: Path | None = None,
    *,
    stages: Stages | None = None,
    embedding: str = "embedding",
) -> tuple[NDArray[np.float32], list[Record], dict[Path, str]]:
    """Return (N, D) unit rows, their N records, and why the other images gave no crop."""
    crops, kept, refused = crop_records(records, config, cache, stages=stages)
    dataset = CropDataset(kept, [0] * len(kept), crops, input_of(config))
    rows = embed(
        encoder,
        dataset,
        batch_size=config.run.batch_size,
        workers=config.data.workers,
        progress=stage(stages, embedding, len(kept)),
    )
    return rows, kept, refused


@dataclass(frozen=True)
class Verification:
    """Error rates over all pairs of images.

    Attributes:
        images: Images that were compared.
        subjects: Subjects they are of.
        refused: Images that gave no crop; not part of the rates.
        mated: Pairs of one subject.
        non_mated: Pairs of two subjects.
        skilled: Pairs of a genuine image and an imitation.
        eer: Against random forgeries, in [0, 1].
        skilled_eer: Against skilled forgeries; None without any.
        fnmr: FNMR at each FMR with at least 3 / FMR non-mated pairs, as (FMR, FNMR, threshold).
        skilled_fnmr: The same against skilled forgeries.
    """

    images: int
    subjects: int
    refused: int
    mated: int
    non_mated: int
    skilled: int
    eer: float
    skilled_eer: float | None
    fnmr: tuple[tuple[float, float, float], ...]
    skilled_fnmr: tuple[tuple[float, float, float], ...]


def pair_counts(embeddings: NDArray[np.float32], records: Sequence[Record]) -> PairCounts:
    """Count the scores of every pair of images, in memory that does not grow with the pairs."""
    subjects = np.array([record.subject for record in records], np.str_)
    return PairCounts(
        PairTiles(
            embeddings,
            np.unique(subjects, return_inverse=True)[1],
            np.array([record.is_forgery for record in records], bool),
        )
    )


def verification_rates(
    embeddings: NDArray[np.float32], records: Sequence[Record], refused: int = 0
) -> Verification:
    """Return the error rates over all pairs; `refused` images gave no crop."""
    return evaluate_verification(embeddings, records, refused)[0]


def evaluate_verification(
    embeddings: NDArray[np.float32], records: Sequence[Record], refused: int = 0
) -> tuple[Verification, ScoreBins]:
    """Return the error rates over all pairs, and the counts of their scores, to draw."""
    pairs = pair_counts(embeddings, records)
    for kind in ("mated", "random"):
        if not pairs.size(kind):
            raise DataError(
                f"{len(records)} images give no {kind.replace('random', 'non-mated')} pair, so there is no "
                "error rate: give two images of one subject, and two subjects"
            )
    has_skilled = bool(pairs.size("skilled"))
    rates = Verification(
        images=len(records),
        subjects=len({record.subject for record in records}),
        refused=refused,
        mated=pairs.size("mated"),
        non_mated=pairs.size("random"),
        skilled=pairs.size("skilled"),
        eer=pairs.equal_error_rate("random").eer,
        skilled_eer=pairs.equal_error_rate("skilled").eer if has_skilled else None,
        fnmr=_table(pairs, "random"),
        skilled_fnmr=_table(pairs, "skilled") if has_skilled else (),
    )
    return rates, pairs


def _table(pairs: PairCounts, kind: str) -> tuple[tuple[float, float, float], ...]:
    rates = [fmr for fmr in FMRS if supported(fmr, pairs.size(kind))]
    return tuple((fmr, *pairs.fnmr_at_fmr(kind, fmr)) for fmr in rates)


@dataclass(frozen=True)
class PairAccuracy:
    """Accuracy and error rates on given pairs, as LFW is reported.

    Attributes:
        pairs: Pairs that were decided.
        refused: Pairs among them with an image that gave no crop: decided as non-matches.
        images: Images of the pairs.
        missing_images: Images whose file is missing.
        unusable: The first images that gave no crop, each with the reason.
        trained_images: Images that the run was trained or validated on, by content; None in runs of earlier
            versions.
        accuracy: Mean over the folds, each at the threshold that is best on the others, in [0, 1].
        standard_error: Of the mean: the sample standard deviation over the folds by the root of their number.
        accuracies: Accuracy in each fold.
        eer: Equal error rate over all pairs with a score.
        eer_interval: Its 95 % interval over subjects.
        fnmr: FNMR at each FMR with at least 3 / FMR non-mated pairs, as (FMR, FNMR, threshold, and the
            ends of the FNMR's 95 % interval over subjects).
    """

    pairs: int
    refused: int
    images: int
    missing_images: int
    unusable: tuple[str, ...]
    trained_images: int | None
    accuracy: float
    standard_error: float
    accuracies: tuple[float, ...]
    eer: float
    eer_interval: tuple[float, float]
    fnmr: tuple[tuple[float, float, float, float, float], ...]


def read_pairs(pairs: Path, images: Path | None = None) -> Dataset:
    """Read LFW's ``pairs.txt``, insightface's ``.bin`` or a CSV of pairs; else raise `DataError`."""
    with as_data_error():
        data = read_data(pairs, images=images)
    if data.pairs is None:
        raise DataError(
            f"{shortened(pairs)} lists no pairs: give a CSV probe,reference,mated, a pairs.txt or a .bin"
        )
    return data


def evaluate_pairs(
    encoder: nn.Module,
    config: Config,
    data: Dataset,
    cache: Path | None = None,
    *,
    trained: TrainedOn | None = None,
    stages: Stages | None = None,
) -> tuple[PairAccuracy, ScoreBins]:
    """Return accuracy and error rates on listed pairs (`read_pairs`), and counts of their scores.

    Folds are those that the data state. Without them fold i of ten takes every tenth mated and every
    tenth non-mated pair from the i-th. Images of insightface's files are crops already, and used whole.
    """
    if data.is_aligned:
        crop = config.crop.model_copy(update={"kind": "plain", "fit": "stretch"})
        config = config.model_copy(update={"crop": crop})
    records = [Record(image.path, image.subject, image.is_forgery) for image in data.images]
    rows, kept, refused = embed_records(encoder, config, records, cache, stages=stages)
    places = {record.path: row for row, record in enumerate(kept)}
    row_of = np.array([places.get(record.path, -1) for record in records])
    scored = score_comparisons(data, Embedded(rows, row_of, {}, ()))
    listed = data.pairs or ()
    mated = np.array([pair.mated for pair in listed])
    folds = [pair.fold for pair in listed if pair.fold is not None]
    if len(folds) < len(mated) or len(set(folds)) < 2:
        folds = _ten_folds(data.source, mated)
    accuracy = fold_accuracy(listed_scores(data, scored), mated.tolist(), folds)
    measured = _measured(data, scored)
    seen = None
    if trained is not None and trained.images is not None:
        known = frozenset().union(*(trained.images.get(p, ()) for p in ("train", "validation")))
        digests = digests_for(trained, kept, cache, stages=stages)
        seen = sum(digest in known for digest in digests.values())
    result = PairAccuracy(
        pairs=len(mated),
        refused=accuracy.failed_pairs,
        images=len(records),
        missing_images=sum(not record.path.exists() for record in records),
        unusable=tuple(
            f"{shortened(image.name)}: {refused[image.path]}"
            for image in data.images
            if image.path in refused
        )[:_NAMED],
        trained_images=seen,
        accuracy=accuracy.mean,
        standard_error=accuracy.standard_error,
        accuracies=accuracy.accuracies,
        eer=measured.eer.value,
        eer_interval=(measured.eer.low, measured.eer.high),
        fnmr=tuple(
            (requested, fnmr.value, threshold, fnmr.low, fnmr.high)
            for requested, threshold, _, fnmr in (vars(row).values() for row in measured.rates)
        ),
    )
    kinds = {"mated": scored.mated, "random": scored.random, "skilled": scored.skilled}
    return result, ScoreBins.of({kind: pairs.scores for kind, pairs in kinds.items()})


def _measured(data: Dataset, scored: ScoredComparisons) -> AttackResult:
    """Return the runtime's error rates of listed pairs; all that are not mated count as one kind."""
    kinds = scored.random, scored.skilled
    others = Comparisons(
        *(
            np.concatenate([getattr(k, part) for k in kinds])
            for part in ("probe", "reference", "scores")
        )
    )
    for what, kind in (("mated", scored.mated), ("non-mated", others)):
        if not kind.scores.size:
            raise DataError(
                f"{shortened(data.source)}: no {what} pair has two images that gave a crop; the images are "
                "missing, or show no face that is found: check --images"
            )
    labels = np.searchsorted(data.subjects, [image.subject for image in data.images])
    return measure_attack("random_forgery", scored.mated, others, labels, fmrs=FMRS)


def _ten_folds(pairs: Path, mated: NDArray[np.bool_]) -> list[int]:
    if min(mated.sum(), (~mated).sum()) < _FOLDS:
        raise DataError(f"{shortened(pairs)}: ten folds need ten mated and ten non-mated pairs")
    folds = np.empty(len(mated), int)
    for kind in (True, False):
        folds[mated == kind] = np.arange((mated == kind).sum()) % _FOLDS
    return [int(fold) for fold in folds]


def validate(learner: Learner, dataset: CropDataset, config: Config) -> dict[str, float]:
    """Return ``eer`` (and ``skilled_eer``) of the weights that would be kept now, and counts of pairs."""
    with learner.rounded():
        embeddings = embed(learner.evaluated, dataset, batch_size=config.run.batch_size)
    pairs = pair_counts(embeddings, dataset.records)
    counts = {
        "mated": float(pairs.size("mated")),
        "non_mated": float(pairs.size("random")),
        "skilled": float(pairs.size("skilled")),
    }
    needed = "skilled" if config.validation.metric == "skilled_eer" else "non_mated"
    if not counts["mated"] or not counts[needed]:
        raise DataError(
            f"the validation subjects give {counts['mated']:.0f} mated and {counts[needed]:.0f} {needed} "
            "pairs: raise data.validation_share, or set it to 0"
        )
    rates = {}
    if counts["non_mated"]:
        rates["eer"] = pairs.equal_error_rate("random").eer
    if counts["skilled"]:
        rates["skilled_eer"] = pairs.equal_error_rate("skilled").eer
    return {**rates, **counts}


@dataclass(frozen=True)
class Classification:
    """Accuracy on held-out images of known subjects.

    Attributes:
        classes: Subjects.
        train_images: Images that the classifiers saw.
        test_images: Images that they were tried on.
        linear: Accuracy of a logistic regression, in [0, 1].
        neighbours: Accuracy of the nearest neighbours' vote, in [0, 1].
        k: How many neighbours.
    """

    classes: int
    train_images: int
    test_images: int
    linear: float
    neighbours: float
    k: int


def classify(
    embeddings: NDArray[np.float32],
    records: Sequence[Record],
    *,
    test_share: float = 0.5,
    k: int = 1,
    subjects: int | None = None,
    seed: int = 0,
) -> Classification:
    """Learn subjects from some genuine images of each, and try the others; the network stays as it is.

    `subjects` takes only so many of those with two images or more, chosen by `seed`; `k` neighbours vote.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier

    owners = np.array([record.subject for record in records])
    genuine = np.array([not record.is_forgery for record in records])
    names, counts = np.unique(owners[genuine], return_counts=True)
    eligible = names[counts >= 2]
    if len(eligible) < max(2, subjects or 0):
        raise DataError(
            f"{len(eligible)} subject(s) have two images or more; {max(2, subjects or 0)} are required"
        )
    if subjects is not None:
        eligible = np.random.default_rng(seed).choice(eligible, subjects, replace=False)
    chosen = np.flatnonzero(genuine & np.isin(owners, eligible))
    smallest = int(counts[np.isin(names, eligible)].min())
    # Both parts of every subject hold an image at the least.
    share = min(max(test_share, 1 / smallest), 1 - 1 / smallest)
    train, test = train_test_split(
        chosen, test_size=share, random_state=seed, stratify=owners[chosen]
    )
    if k > len(train):
        raise DataError(
            f"{k} neighbours were requested, and the classifier sees {len(train)} images: ask for fewer"
        )
    linear = LogisticRegression(C=100.0, max_iter=2000).fit(embeddings[train], owners[train])
    near = KNeighborsClassifier(n_neighbors=k).fit(embeddings[train], owners[train])
    return Classification(
        classes=len(eligible),
        train_images=len(train),
        test_images=len(test),
        linear=float(linear.score(embeddings[test], owners[test])),
        neighbours=float(near.score(embeddings[test], owners[test])),
        k=k,
    )
