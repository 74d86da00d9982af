"""The protocol: references, probes and forgeries of each writer, and their scores.

A draw takes K of a writer's genuine signatures as references. The others are mated probes, the imitations
of that writer are skilled forgeries, and genuine signatures of other writers of the same set are random
forgeries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.signature.data import Signatures, writer_generator
from verifykit.scoring import reference_rows, unit_rows
from verifykit.spec import Fusion
from verifykit.types import Embeddings

Numbers = NDArray[np.int64]


class Scorer(Protocol):
    """Scores of probes against the references of a subject, all as indices of images."""

    def __call__(self, references: Numbers, probes: Numbers) -> NDArray[np.float32]:
        """Score (P,) probes against (K,) references; higher is more alike."""


class EmbeddingScorer:
    """Scores of the runtime: ``verifykit.scoring.subject_score`` of each probe."""

    def __init__(
        self, references: Embeddings, fusion: Fusion, probes: Embeddings | None = None
    ) -> None:
        """Keep embeddings and the fusion of their model.

        Args:
            references: (N, D) float32 unit rows.
            fusion: The fusion of scores against several references.
            probes: (N, D) unit rows of the same images after a change; None uses ``references``.
        """
        self._references = references
        self._fusion = fusion
        self._probes = unit_rows(references if probes is None else probes).astype(np.float64)

    def __call__(self, references: Numbers, probes: Numbers) -> NDArray[np.float32]:
        """Return the best score over the fused references for each probe."""
        rows = reference_rows(self._references[references], self._fusion).astype(np.float64)
        scores = (self._probes[probes] @ rows.T).max(axis=1)
        return np.asarray(np.clip(scores, -1.0, 1.0), np.float32)


class MeanScorer:
    """The mean of a similarity over the references."""

    def __init__(self, similarity: Callable[[int, Numbers], NDArray[np.float64]]) -> None:
        """Keep a similarity: one reference and (P,) probes to (P,) values, higher is more alike."""
        self._similarity = similarity

    def __call__(self, references: Numbers, probes: Numbers) -> NDArray[np.float32]:
        """Return the mean similarity to the references for each probe."""
        similarities = [self._similarity(int(reference), probes) for reference in references]
        return np.asarray(np.mean(similarities, axis=0), np.float32)


@dataclass(frozen=True)
class Plan:
    """Parameters of drawing trials.

    Attributes:
        draws: Number of draws of references for each writer.
        random_probes: Maximum number of random forgeries for each writer, the same in each draw.
        seed: Seed of all draws.
    """

    draws: int = 5
    random_probes: int = 100
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Trial:
    """One draw of one writer; indices of images.

    Attributes:
        writer: The claimed writer.
        references: (K,) references.
        mated: Genuine signatures that are not references.
        skilled: Imitations of this writer.
        random: Genuine signatures of other writers.
    """

    writer: str
    references: Numbers
    mated: Numbers
    skilled: Numbers
    random: Numbers


@dataclass(frozen=True, eq=False)
class TrialScores:
    """The scores of one trial, in the order of its probes."""

    writer: str
    mated: NDArray[np.float32]
    skilled: NDArray[np.float32]
    random: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images of one writer, (M, 2) genuine and (S, 2) genuine with forged."""

    writer: str
    mated: Numbers
    skilled: Numbers


def draw_trials(
    signatures: Signatures,
    count: int,
    plan: Plan,
    usable: NDArray[np.bool_],
    usable_probes: NDArray[np.bool_] | None = None,
) -> list[Trial]:
    """Draw the trials of every writer with more than ``count`` usable genuine signatures.

    A writer's genuine signatures are shuffled once per draw, before the unusable ones are removed: the
    references of a smaller ``count`` are among those of a larger one, and two scorers that refuse different
    images are still compared on nearly the same draws.

    Args:
        signatures: N images.
        count: K, the number of references of a subject.
        plan: Number of draws and of random forgeries.
        usable: (N,) images that can be references and probes.
        usable_probes: (N,) images that can be probes, if the probes are changed; None uses ``usable``.
    """
    probes = usable if usable_probes is None else usable_probes
    numbers = np.arange(len(usable))
    trials = []
    for set_name in signatures.set_names():
        in_set = signatures.sets == set_name
        for writer in signatures.writers(set_name):
            own = signatures.subjects == writer
            genuine = numbers[own & ~signatures.forged]
            if usable[genuine].sum() <= count:
                continue
            forged = numbers[own & signatures.forged & probes]
            others = numbers[in_set & ~own & ~signatures.forged]
            random = writer_generator(plan.seed, writer, 0).permutation(others)
            random = random[probes[random]][: plan.random_probes]
            for draw in range(plan.draws):
                shuffled = writer_generator(plan.seed, writer, 1, draw).permutation(genuine)
                references = shuffled[usable[shuffled]][:count]
                rest = shuffled[~np.isin(shuffled, references)]
                trials.append(Trial(writer, references, rest[probes[rest]], forged, random))
    return trials


def score_trials(trials: Sequence[Trial], scorer: Scorer) -> list[TrialScores]:
    """Score every trial, in order."""
    return [
        TrialScores(
            trial.writer,
            scorer(trial.references, trial.mated),
            scorer(trial.references, trial.skilled),
            scorer(trial.references, trial.random),
        )
        for trial in trials
    ]


def draw_pairs(signatures: Signatures, usable: NDArray[np.bool_], seed: int) -> list[Pairs]:
    """Draw pairs with one reference, as in published work on these sets.

    All pairs of a writer's genuine signatures, 276 of 24, and as many of a genuine one with a forgery,
    drawn without replacement; if there are fewer of those, all of them. Dey et al., "SigNet: convolutional
    siamese network for writer independent offline signature verification", arXiv:1707.02131, 2017, section 4.
    """
    numbers = np.arange(len(usable))
    pairs = []
    for writer in sorted(set(signatures.subjects.tolist())):
        own = (signatures.subjects == writer) & usable
        genuine, forged = numbers[own & ~signatures.forged], numbers[own & signatures.forged]
        mated = np.array(list(combinations(genuine.tolist(), 2)), np.int64).reshape(-1, 2)
        every = np.stack(np.meshgrid(genuine, forged, indexing="ij"), axis=-1).reshape(-1, 2)
        drawn = writer_generator(seed, writer, 2).permutation(len(every))[: len(mated)]
        pairs.append(Pairs(writer, mated, every[drawn]))
    return pairs


def score_pairs(pairs: Sequence[Pairs], scorer: Scorer) -> list[TrialScores]:
    """Score the pairs of every writer, the first of each pair as the reference; no random forgeries."""
    empty = np.empty(0, np.float32)
    return [
        TrialScores(
            each.writer, _score_kind(each.mated, scorer), _score_kind(each.skilled, scorer), empty
        )
        for each in pairs
    ]


def _score_kind(pairs: Numbers, scorer: Scorer) -> NDArray[np.float32]:
    scores = np.empty(len(pairs), np.float32)
    for reference in np.unique(pairs[:, 0]):
        at = np.flatnonzero(pairs[:, 0] == reference)
        scores[at] = scorer(np.array([reference]), pairs[at, 1])
    return scores
