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

from verifykit.errors import shortened, shown
from verifykit.evaluation.embedding import Embedded
from verifykit.evaluation.folds import fold_accuracy
from verifykit.evaluation.one_to_one import supported
from verifykit.evaluation.pairs import every_pair, listed_scores, read_data, score_comparisons
from verifykit.evaluation.tiles import PairCounts
from verifykit.metrics import EqualErrorRate, equal_error_rate
from verifykit_training.batches import CropDataset, Plan, build_loader
from verifykit_training.config import Config
from verifykit_training.dataset import Record, as_data_error, read_records
from verifykit_training.encoders import EmbeddingNetwork
from verifykit_training.errors import DataError
from verifykit_training.learner import Learner, encoder_of, input_of
from verifykit_training.preparation import crop_records, digests_for
from verifykit_training.run_folder import RunFolder, load_weights
from verifykit_training.trained_on import of_split, separate

Part: TypeAlias = Literal["held_out", "train", "validation", "test", "all"]

FMRS = (1e-1, 1e-2, 1e-3, 1e-4)
_FOLDS = 10


@dataclass(frozen=True, eq=False)
class Scores:
    """Cosine similarities of pairs of images, each pair once.

    Attributes:
        mated: (M,) float32, two genuine images of one subject.
        non_mated: (N,) float32, genuine images of two subjects (random forgeries).
        skilled: (S,) float32, a genuine image and an imitation of that subject; empty without any.
    """

    mated: NDArray[np.float32]
    non_mated: NDArray[np.float32]
    skilled: NDArray[np.float32]

    def equal_error_rate(self, *, skilled: bool = False) -> EqualErrorRate:
        """Return the EER against random, or against skilled forgeries."""
        return equal_error_rate(self.mated, self.skilled if skilled else self.non_mated)


def pair_scores(
    embeddings: NDArray[np.float32], subjects: Sequence[str], forgeries: Sequence[bool]
) -> Scores:
    """Score every pair of images; two imitations, and one with another subject, are not a pair."""
    found = every_pair(embeddings, subjects, forgeries)
    return Scores(found.mated.scores, found.random.scores, found.skilled.scores)


@torch.inference_mode()
def embed(
    encoder: nn.Module, dataset: CropDataset, *, batch_size: int, workers: int = 0
) -> NDArray[np.float32]:
    """Return (N, D) embeddings of a dataset without augmentation; the encoder's mode is put back."""
    device = next(encoder.parameters()).device
    rows = range(len(dataset))
    plans = [Plan(rows[at : at + batch_size], 0) for at in range(0, len(rows), batch_size)]
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        parts = [
            encoder(batch.images.to(device)).float().cpu().numpy()
            for batch in build_loader(dataset, plans, workers)
        ]
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
) -> list[Record]:
    """Return a part of some data as the run divided it: images and subjects are found by content.

    ``"held_out"`` are the subjects that were neither trained nor validated on.
    """
    records = read_records(data)
    if part == "all":
        return records
    trained = run.read_trained_on()
    digests = digests_for(trained, records, cache)
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
    progress: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float32], list[Record], dict[Path, str]]:
    """Return (N, D) unit rows, their N records, and why the other images gave no crop."""
    crops, kept, refused = crop_records(records, config, cache, progress=progress)
    dataset = CropDataset(kept, [0] * len(kept), crops, input_of(config))
    rows = embed(encoder, dataset, batch_size=config.run.batch_size, workers=config.data.workers)
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
    return PairCounts(
        embeddings,
        [record.subject for record in records],
        [record.is_forgery for record in records],
    )


def verification_rates(
    embeddings: NDArray[np.float32], records: Sequence[Record], refused: int = 0
) -> Verification:
    """Return the error rates over all pairs; `refused` images gave no crop."""
    pairs = pair_counts(embeddings, records)
    for kind in ("mated", "random"):
        if not pairs.size(kind):
            raise DataError(
                f"{len(records)} images give no {kind.replace('random', 'non-mated')} pair, so there is no "
                "error rate: give two images of one subject, and two subjects"
            )
    has_skilled = bool(pairs.size("skilled"))
    return Verification(
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


def evaluate_verification(
    embeddings: NDArray[np.float32], records: Sequence[Record], refused: int = 0
) -> tuple[Verification, Scores]:
    """Return the error rates over all pairs, and scores to draw (of very many pairs a sample)."""
    subjects = [record.subject for record in records]
    rates = verification_rates(embeddings, records, refused)
    return rates, pair_scores(embeddings, subjects, [record.is_forgery for record in records])


def _table(pairs: PairCounts, kind: str) -> tuple[tuple[float, float, float], ...]:
    rates = [fmr for fmr in FMRS if supported(fmr, pairs.size(kind))]
    return tuple((fmr, *pairs.fnmr_at_fmr(kind, fmr)) for fmr in rates)


@dataclass(frozen=True)
class PairAccuracy:
    """Accuracy on given pairs, as LFW is reported.

    Attributes:
        pairs: Pairs that were decided.
        refused: Pairs among them with an image that gave no crop: decided as non-matches.
        accuracy: Mean over the folds, each at the threshold that is best on the others, in [0, 1].
        standard_error: Of the mean: the sample standard deviation over the folds by the root of their number.
        eer: Equal error rate over all pairs with a score.
    """

    pairs: int
    refused: int
    accuracy: float
    standard_error: float
    eer: float


def evaluate_pairs(
    encoder: nn.Module, config: Config, pairs: Path, cache: Path | None = None
) -> tuple[PairAccuracy, Scores]:
    """Return the accuracy on the pairs of a CSV ``probe,reference,mated`` or of LFW's ``pairs.txt``.

    Folds are those that the file states. Without them fold i of ten takes every tenth mated and every
    tenth non-mated pair from the i-th.
    """
    with as_data_error():
        data = read_data(pairs)
    if data.pairs is None:
        raise DataError(
            f"{shortened(pairs)} lists no pairs: give a CSV probe,reference,mated or a pairs.txt"
        )
    records = [Record(image.path, image.subject, image.is_forgery) for image in data.images]
    rows, kept, _ = embed_records(encoder, config, records, cache)
    places = {record.path: row for row, record in enumerate(kept)}
    row_of = np.array([places.get(record.path, -1) for record in records])
    scored = score_comparisons(data, Embedded(rows, row_of, {}, ()))
    mated = np.array([pair.mated for pair in data.pairs])
    folds = [pair.fold for pair in data.pairs if pair.fold is not None]
    if len(folds) < len(mated):
        folds = _ten_folds(pairs, mated)
    accuracy = fold_accuracy(listed_scores(data, scored), mated.tolist(), folds)
    found = Scores(scored.mated.scores, scored.random.scores, scored.skilled.scores)
    others = np.concatenate([found.non_mated, found.skilled])
    eer = equal_error_rate(found.mated, others).eer
    result = PairAccuracy(
        len(mated), accuracy.failed_pairs, accuracy.mean, accuracy.standard_error, eer
    )
    return result, found


def _ten_folds(pairs: Path, mated: NDArray[np.bool_]) -> list[int]:
    if min(mated.sum(), (~mated).sum()) < _FOLDS:
        raise DataError(f"{shortened(pairs)}: ten folds need ten mated and ten non-mated pairs")
    folds = np.empty(len(mated), int)
    for kind in (True, False):
        folds[mated == kind] = np.arange((mated == kind).sum()) % _FOLDS
    return [int(fold) for fold in folds]


def validate(learner: Learner, dataset: CropDataset, config: Config) -> dict[str, float]:
    """Return ``eer`` (and ``skilled_eer``) of the weights that would be kept now, and counts of pairs."""
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
