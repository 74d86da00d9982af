"""What a run's weights are worth: error rates, accuracy on given pairs, classification.

Images to embeddings with a network in torch, and embeddings to scores.

The metrics by which checkpoints are chosen, on subjects that are not trained on.

The embedding as features for classification: a linear classifier and nearest neighbours.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from verifykit.metrics import EqualErrorRate, equal_error_rate, fnmr_at_fmr
from verifykit_training.batches import CropDataset, Plan, build_loader
from verifykit_training.config import Config
from verifykit_training.dataset import Record, divide, read_records
from verifykit_training.errors import DataError
from verifykit_training.learner import Learner, encoder_of, input_of
from verifykit_training.preparation import crop_records
from verifykit_training.run_folder import RunFolder, load_weights


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
        """The EER against random, or against skilled forgeries.

        Raises:
            InputError: There are no mated or no such non-mated pairs.
        """
        return equal_error_rate(self.mated, self.skilled if skilled else self.non_mated)


@torch.inference_mode()
def embed(
    encoder: nn.Module, dataset: CropDataset, *, batch_size: int, workers: int = 0
) -> NDArray[np.float32]:
    """The embeddings of a whole dataset, in eval mode; the module's mode is put back.

    Args:
        encoder: (N, C, H, W) float32 to (N, D) unit rows.
        dataset: Without augmentation.
        batch_size: Images at a time.
        workers: Processes that read crops.

    Returns:
        (N, D) float32, in the dataset's order.
    """
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


def pair_scores(
    embeddings: NDArray[np.float32], labels: Sequence[int], forgeries: Sequence[bool] | None = None
) -> Scores:
    """Every pair of images, by what kind of pair it is.

    Memory is that of all N² / 2 scores.

    Args:
        embeddings: (N, D) unit rows.
        labels: (N,) subject of each.
        forgeries: (N,) which are imitations of their subject; None is none.

    Returns:
        The scores. Two imitations, and an imitation with another subject, are no pair.
    """
    owner = np.asarray(labels)
    forged = np.zeros(len(owner), bool) if forgeries is None else np.asarray(forgeries)
    mated, non_mated, skilled = [], [], []
    for row in range(len(owner) - 1):
        scores = embeddings[row + 1 :] @ embeddings[row]
        same = owner[row + 1 :] == owner[row]
        other_forged = forged[row + 1 :]
        one_forged = other_forged != forged[row]
        both_genuine = ~(other_forged | forged[row])
        mated.append(scores[same & both_genuine])
        non_mated.append(scores[~same & both_genuine])
        skilled.append(scores[same & one_forged])
    empty = [np.empty(0, np.float32)]
    return Scores(*(np.concatenate(part or empty) for part in (mated, non_mated, skilled)))


Part: TypeAlias = Literal["held_out", "train", "validation", "test", "all"]

FMRS = (1e-1, 1e-2, 1e-3, 1e-4)
_FOLDS = 10


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
        fnmr: FNMR at each FMR that at least 3 / FMR non-mated pairs stand behind, as (FMR, FNMR, threshold).
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


def load_encoder(run: RunFolder, *, untrained: bool = False) -> tuple[nn.Module, Config]:
    """A run's network in eval mode, and its configuration.

    Args:
        run: The run.
        untrained: As it was before the first step, for comparison.

    Raises:
        TrainingError: The folder holds no finished run.
        ConfigError: Its configuration was changed to something that is not allowed.
        ModelError: ``untrained``, and the weights it began with are not there any more.
    """
    import torch

    config = run.read_config()
    torch.manual_seed(config.seed)
    if untrained:
        return encoder_of(config).eval(), config
    section = config.encoder.model_copy(update={"weights": "none"})
    encoder = encoder_of(config.model_copy(update={"encoder": section}))
    load_weights(run.weights, encoder)
    return encoder.eval(), config


def records_of(run: RunFolder, data: Path, part: Part) -> list[Record]:
    """The records of a part of some data, as a run divides it.

    Args:
        run: Says who was trained on.
        data: A folder or a CSV.
        part: ``"held_out"`` is everybody who was neither trained nor validated on.

    Raises:
        DataError: The data cannot be read, or that part of them is empty.
    """
    records = read_records(data)
    if part in ("validation", "test", "train"):
        config = run.read_config()
        parts = divide(
            records,
            validation_share=config.data.validation_share,
            test_share=config.data.test_share,
            seed=config.seed,
        )
        chosen = parts[part]
    elif part == "held_out":
        splits = run.read_subjects()
        seen = {*splits.get("train", ()), *splits.get("validation", ())}
        chosen = [record for record in records if record.subject not in seen]
    else:
        chosen = records
    if not chosen:
        raise DataError(
            f"{data} has nobody in part {part!r} of this run: train with data.test_share, give other "
            "data, or choose another --part"
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
    """Embeddings of all images that give a crop.

    Args:
        encoder: In eval mode.
        config: Of its run.
        records: The images.
        cache: Folder of the crops.
        progress: Called with the number of images cropped so far.

    Returns:
        (N, D) unit rows, their N records, and the images that gave no crop with the reason.

    Raises:
        DataError: No image gave a crop.
        ModelError: The face detector is not there.
    """
    crops, kept, refused = crop_records(records, config, cache, progress=progress)
    dataset = CropDataset(kept, [0] * len(kept), crops, input_of(config))
    rows = embed(encoder, dataset, batch_size=config.run.batch_size, workers=config.data.workers)
    return rows, kept, refused


def evaluate_verification(
    embeddings: NDArray[np.float32], records: Sequence[Record], refused: int = 0
) -> tuple[Verification, Scores]:
    """Error rates over all pairs.

    Args:
        embeddings: (N, D) unit rows.
        records: Whose they are.
        refused: How many images gave no crop.

    Returns:
        The rates, and the scores they are of.

    Raises:
        InputError: There is no mated or no non-mated pair.
    """
    names = {name: i for i, name in enumerate(sorted({record.subject for record in records}))}
    labels = [names[record.subject] for record in records]
    scores = pair_scores(embeddings, labels, [record.is_forgery for record in records])
    has_skilled = bool(scores.skilled.size)
    result = Verification(
        images=len(records),
        subjects=len(names),
        refused=refused,
        mated=scores.mated.size,
        non_mated=scores.non_mated.size,
        skilled=scores.skilled.size,
        eer=scores.equal_error_rate().eer,
        skilled_eer=scores.equal_error_rate(skilled=True).eer if has_skilled else None,
        fnmr=_table(scores.mated, scores.non_mated),
        skilled_fnmr=_table(scores.mated, scores.skilled) if has_skilled else (),
    )
    return result, scores


@dataclass(frozen=True)
class PairAccuracy:
    """Accuracy on given pairs, as LFW is reported.

    Attributes:
        pairs: Pairs that were compared.
        refused: Pairs left out since an image gave no crop.
        accuracy: Mean over ten folds, each at the threshold that is best on the other nine, in [0, 1].
        deviation: Standard deviation over the folds.
        eer: Equal error rate over all pairs.
    """

    pairs: int
    refused: int
    accuracy: float
    deviation: float
    eer: float


def evaluate_pairs(
    encoder: nn.Module, config: Config, pairs: Path, cache: Path | None = None
) -> tuple[PairAccuracy, Scores]:
    """Accuracy on pairs that somebody chose: a CSV ``probe,reference,mated`` with 1 or 0.

    Huang et al., "Labeled Faces in the Wild", 2007, section 3: folds that are not looked at choose the
    threshold. Fold i takes every tenth mated and every tenth non-mated pair from the i-th.

    Args:
        encoder: In eval mode.
        config: Of its run.
        pairs: The CSV; its paths are relative to it.
        cache: Folder of the crops.

    Returns:
        The accuracy, and the scores.

    Raises:
        DataError: Not such a file, or too few pairs.
    """
    rows = _read_pairs(pairs)
    records = [Record(path, "") for path in dict.fromkeys(p for row in rows for p in row[:2])]
    embeddings, kept, _ = embed_records(encoder, config, records, cache)
    place = {record.path: i for i, record in enumerate(kept)}
    used = [row for row in rows if row[0] in place and row[1] in place]
    scores = np.array([embeddings[place[a]] @ embeddings[place[b]] for a, b, _ in used])
    mated = np.array([row[2] for row in used])
    if min(mated.sum(), (~mated).sum()) < _FOLDS:
        raise DataError(f"{pairs}: ten folds need ten mated and ten non-mated pairs")
    fold = np.empty(len(used), int)
    for kind in (True, False):
        fold[mated == kind] = np.arange((mated == kind).sum()) % _FOLDS
    rates = [
        ((scores >= _best_threshold(scores[fold != i], mated[fold != i])) == mated)[
            fold == i
        ].mean()
        for i in range(_FOLDS)
    ]
    whole = Scores(scores[mated], scores[~mated], np.empty(0, np.float32))
    eer = whole.equal_error_rate().eer
    refused = len(rows) - len(used)
    return PairAccuracy(len(used), refused, float(np.mean(rates)), float(np.std(rates)), eer), whole


def _best_threshold(scores: NDArray[np.float32], mated: NDArray[np.bool_]) -> float:
    """The score at which, as a threshold, the most pairs are judged rightly."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(np.where(mated[order], 1, -1))
    # Only the last of equal scores is a threshold that takes them all.
    last = np.append(np.diff(scores[order]) != 0, True)
    return float(scores[order][np.argmax(np.where(last, right, -len(scores)))])


def _read_pairs(path: Path) -> list[tuple[Path, Path, bool]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if reader.fieldnames != ["probe", "reference", "mated"]:
                raise DataError(f"{path}: its columns must be probe,reference,mated")
            rows = [
                (path.parent / row["probe"], path.parent / row["reference"], row["mated"])
                for row in reader
            ]
    except (OSError, csv.Error, UnicodeDecodeError, TypeError) as error:
        raise DataError(f"{path} is not a CSV file of pairs: {error}") from error
    if wrong := {mated for _, _, mated in rows} - {"0", "1"}:
        raise DataError(f"{path}: mated is 1 or 0, not {min(map(str, wrong))!r}")
    return [(probe, reference, mated == "1") for probe, reference, mated in rows]


def _table(
    mated: NDArray[np.float32], non_mated: NDArray[np.float32]
) -> tuple[tuple[float, float, float], ...]:
    # The rule of three: fewer comparisons say nothing about so low a rate.
    rates = [fmr for fmr in FMRS if non_mated.size >= 3 / fmr]
    return tuple((fmr, *fnmr_at_fmr(mated, non_mated, fmr)) for fmr in rates)


def validate(learner: Learner, dataset: CropDataset, config: Config) -> dict[str, float]:
    """Error rates of the weights that would be kept now.

    Args:
        learner: Of the run.
        dataset: Held-out subjects.
        config: The run's configuration.

    Returns:
        ``eer``; with imitations in the data ``skilled_eer`` too; and the number of pairs of each kind.

    Raises:
        DataError: The data do not hold the pairs that the metric is measured on.
    """
    scores = score_dataset(learner, dataset, config)
    counts = {
        "mated": float(scores.mated.size),
        "non_mated": float(scores.non_mated.size),
        "skilled": float(scores.skilled.size),
    }
    wanted = "skilled" if config.validation.metric == "skilled_eer" else "non_mated"
    if not counts["mated"] or not counts[wanted]:
        raise DataError(
            f"the validation subjects give {counts['mated']:.0f} mated and {counts[wanted]:.0f} {wanted} "
            "pairs: raise data.validation_share, or set it to 0"
        )
    rates = {}
    if scores.non_mated.size:
        rates["eer"] = scores.equal_error_rate().eer
    if scores.skilled.size:
        rates["skilled_eer"] = scores.equal_error_rate(skilled=True).eer
    return {**rates, **counts}


def score_dataset(learner: Learner, dataset: CropDataset, config: Config) -> Scores:
    """All pairs of a dataset, by the weights that would be kept now.

    Args:
        learner: Of the run.
        dataset: Without augmentation.
        config: The run's configuration.
    """
    embeddings = embed(learner.evaluated, dataset, batch_size=config.run.batch_size)
    forgeries = [record.is_forgery for record in dataset.records]
    return pair_scores(embeddings, dataset.labels, forgeries)


@dataclass(frozen=True)
class Classification:
    """Accuracy on held-out images of known subjects.

    Attributes:
        classes: Subjects told apart.
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
    """Learn subjects from some images of each, and try the others; the network stays as it is.

    Args:
        embeddings: (N, D) unit rows.
        records: Whose they are; forgeries are left out.
        test_share: Share of each subject's images to try, in (0, 1).
        k: Neighbours that vote.
        subjects: Only so many, chosen by ``seed``; None is all with two images or more.
        seed: Of the choice of subjects and images.

    Raises:
        DataError: Fewer than two subjects have two images or more, or fewer than were asked for.
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
            f"{len(eligible)} subject(s) have two images or more; {max(2, subjects or 0)} are wanted"
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
