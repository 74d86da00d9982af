"""Who is compared with what: references, probes and forgeries of each writer, and their scores.

A draw takes K of a writer's genuine signatures as references. The others are mated probes, the imitations
of that writer skilled probes, and genuine signatures of other writers of the same set random probes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.signatures import Signatures, writer_generator
from verifykit.scoring import reference_rows, unit_rows
from verifykit.spec import Fusion
from verifykit.types import Embeddings

__all__ = [
    "EmbeddingScorer",
    "MeanScorer",
    "Pairs",
    "Plan",
    "Scorer",
    "Trial",
    "TrialScores",
    "draw_pairs",
    "draw_trials",
    "score_pairs",
    "score_trials",
]

Numbers = NDArray[np.int64]


class Scorer(Protocol):
    """Scores of probes against one subject's references, all as numbers of images."""

    def __call__(self, references: Numbers, probes: Numbers) -> NDArray[np.float32]:
        """(K,) references and (P,) probes to (P,) scores, higher is more alike."""


class EmbeddingScorer:
    """Scores as the runtime gives them: ``verifykit.scoring.subject_score`` of each probe."""

    def __init__(
        self, references: Embeddings, fusion: Fusion, probes: Embeddings | None = None
    ) -> None:
        """Take embeddings, and the fusion of their model.

        Args:
            references: (N, D) float32 unit rows.
            fusion: How scores against several references become one.
            probes: (N, D) likewise, of the same images after a change; None is the same rows.
        """
        self._references = references
        self._fusion = fusion
        self._probes = unit_rows(references if probes is None else probes).astype(np.float64)

    def __call__(self, references: Numbers, probes: Numbers) -> NDArray[np.float32]:
        """Best row of the fused references for each probe."""
        rows = reference_rows(self._references[references], self._fusion).astype(np.float64)
        scores = (self._probes[probes] @ rows.T).max(axis=1)
        return np.clip(scores, -1.0, 1.0).astype(np.float32)


class MeanScorer:
    """The mean over the references of any similarity of two images."""

    def __init__(self, similarity: Callable[[int, Numbers], NDArray[np.float64]]) -> None:
        """Take a similarity.

        Args:
            similarity: One reference and (P,) probes to (P,) values, higher is more alike.
        """
        self._similarity = similarity

    def __call__(self, references: Numbers, probes: Numbers) -> NDArray[np.float32]:
        """Mean of the similarities to the references."""
        found = [self._similarity(int(reference), probes) for reference in references]
        return np.mean(found, axis=0).astype(np.float32)


@dataclass(frozen=True)
class Plan:
    """How trials are drawn.

    Attributes:
        draws: How often a writer's references are drawn.
        random_probes: Random probes of each writer, at most; the same ones in each of its draws.
        seed: Of everything.
    """

    draws: int = 5
    random_probes: int = 100
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Trial:
    """One draw of one writer; numbers of images.

    Attributes:
        writer: Whose.
        references: (K,).
        mated: Genuine ones that are no references.
        skilled: Imitations of this writer.
        random: Genuine ones of others.
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
    """The draws of every writer who has more usable genuine signatures than references are wanted.

    A writer's genuine signatures are shuffled once a draw, before the unusable ones are left out: the
    references of a smaller ``count`` are among those of a larger one, and two ways of scoring that refuse
    other images are still compared on nearly the same draws.

    Args:
        signatures: N images.
        count: K, references of a subject.
        plan: How often, and how many.
        usable: (N,) which images can be references and probes.
        usable_probes: (N,) which can be probes, where those are changed; None is ``usable``.
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
            strangers = writer_generator(plan.seed, writer, 0).permutation(others)
            strangers = strangers[probes[strangers]][: plan.random_probes]
            for draw in range(plan.draws):
                shuffled = writer_generator(plan.seed, writer, 1, draw).permutation(genuine)
                references = shuffled[usable[shuffled]][:count]
                rest = shuffled[~np.isin(shuffled, references)]
                trials.append(Trial(writer, references, rest[probes[rest]], forged, strangers))
    return trials


def score_trials(trials: Sequence[Trial], scorer: Scorer) -> list[TrialScores]:
    """The scores of every trial, in order."""
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
    """Pairs with one reference, as published work on these sets forms them.

    All pairs of a writer's genuine signatures, 276 of 24, and as many of a genuine one with a forgery,
    drawn without replacement; where there are fewer of those, all of them. Dey et al., "SigNet:
    convolutional siamese network for writer independent offline signature verification",
    arXiv:1707.02131, 2017, section 4.

    Args:
        signatures: N images.
        usable: (N,) which of them were not refused.
        seed: Of the forged pairs.
    """
    numbers = np.arange(len(usable))
    table = []
    for writer in sorted(set(signatures.subjects.tolist())):
        own = (signatures.subjects == writer) & usable
        genuine, forged = numbers[own & ~signatures.forged], numbers[own & signatures.forged]
        mated = np.array(list(combinations(genuine.tolist(), 2)), np.int64).reshape(-1, 2)
        every = np.stack(np.meshgrid(genuine, forged, indexing="ij"), axis=-1).reshape(-1, 2)
        drawn = writer_generator(seed, writer, 2).permutation(len(every))[: len(mated)]
        table.append(Pairs(writer, mated, every[drawn]))
    return table


def score_pairs(pairs: Sequence[Pairs], scorer: Scorer) -> list[TrialScores]:
    """The scores of every writer's pairs, the first of each pair the reference; no random ones."""
    empty = np.empty(0, np.float32)
    return [
        TrialScores(
            each.writer, *(_each(kind, scorer) for kind in (each.mated, each.skilled)), empty
        )
        for each in pairs
    ]


def _each(pairs: Numbers, scorer: Scorer) -> NDArray[np.float32]:
    scores = np.empty(len(pairs), np.float32)
    for reference in np.unique(pairs[:, 0]):
        at = np.flatnonzero(pairs[:, 0] == reference)
        scores[at] = scorer(np.array([reference]), pairs[at, 1])
    return scores
