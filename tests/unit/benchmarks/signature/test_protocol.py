from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from benchmarks.signature.data import Signatures
from benchmarks.signature.protocol import (
    EmbeddingScorer,
    MeanScorer,
    Plan,
    draw_pairs,
    draw_trials,
    score_pairs,
    score_trials,
)
from tests.unit.benchmarks.signature.synthetic import directions, synthetic_signatures
from verifykit.scoring import FUSIONS, cosine, subject_score
from verifykit.spec import Fusion

PLAN = Plan(draws=3, random_probes=7, seed=5)


def _of(signatures: Signatures, writer: str, forged: bool) -> set[int]:
    return {
        i
        for i in range(len(signatures.paths))
        if signatures.subjects[i] == writer and signatures.forged[i] == forged
    }


def test_a_trial_assigns_each_image_to_its_role() -> None:
    signatures = synthetic_signatures()
    usable = np.ones(len(signatures.paths), bool)
    trials = draw_trials(signatures, 3, PLAN, usable)
    assert len(trials) == 3 * 6
    for trial in trials:
        references, mated = set(trial.references.tolist()), set(trial.mated.tolist())
        assert len(trial.references) == 3
        assert not references & mated
        assert references | mated == _of(signatures, trial.writer, False)
        assert set(trial.skilled.tolist()) == _of(signatures, trial.writer, True)
        assert len(set(trial.random.tolist())) == 7
        for other in trial.random.tolist():
            assert signatures.subjects[other] != trial.writer
            assert signatures.sets[other] == trial.writer[0]
            assert not signatures.forged[other]


def test_draws_differ_and_are_reproducible() -> None:
    signatures = synthetic_signatures()
    usable = np.ones(len(signatures.paths), bool)
    once, again = (draw_trials(signatures, 3, PLAN, usable) for _ in range(2))
    assert [t.references.tolist() for t in once] == [t.references.tolist() for t in again]
    of_one = [tuple(t.references.tolist()) for t in once if t.writer == "a/00"]
    assert len(set(of_one)) == 3
    fewer = draw_trials(signatures, 1, PLAN, usable)
    assert all(a.references[0] == b.references[0] for a, b in zip(fewer, once, strict=True))
    other = draw_trials(signatures, 3, Plan(3, 7, seed=6), usable)
    assert [t.references.tolist() for t in once] != [t.references.tolist() for t in other]


def test_other_writers_do_not_change_the_references_of_a_writer() -> None:
    six, four = synthetic_signatures(writers=6), synthetic_signatures(writers=4)
    names = {}
    for signatures in (six, four):
        order = {n: sorted(_of(signatures, n, False)) for n in set(signatures.subjects.tolist())}
        trials = draw_trials(signatures, 3, PLAN, np.ones(len(signatures.paths), bool))
        names[len(order)] = [
            [order[t.writer].index(r) for r in t.references.tolist()]
            for t in trials
            if t.writer in ("a/00", "b/03")
        ]
    assert names[6] == names[4]


def test_unusable_images_are_in_no_trial() -> None:
    signatures = synthetic_signatures()
    usable = np.random.default_rng(1).random(len(signatures.paths)) > 0.3
    probes = usable & (np.random.default_rng(2).random(len(usable)) > 0.3)
    for trial in draw_trials(signatures, 2, PLAN, usable, probes):
        assert usable[trial.references].all()
        own = _of(signatures, trial.writer, False) - set(trial.references.tolist())
        assert set(trial.mated.tolist()) == {i for i in own if probes[i]}
        assert probes[trial.skilled].all()
        assert probes[trial.random].all()


def test_a_writer_needs_one_more_than_the_references() -> None:
    signatures = synthetic_signatures()
    usable = np.ones(len(signatures.paths), bool)
    usable[sorted(_of(signatures, "a/02", False))[:3]] = False
    found = {t.writer for t in draw_trials(signatures, 5, PLAN, usable)}
    assert found == {"a/00", "a/04", "b/01", "b/03", "b/05"}
    assert draw_trials(signatures, 8, PLAN, usable) == []


@pytest.mark.parametrize("fusion", FUSIONS)
def test_scores_equal_those_of_the_runtime(fusion: Fusion) -> None:
    signatures = synthetic_signatures()
    rows, changed = directions(signatures), directions(signatures, seed=1)
    usable = np.ones(len(rows), bool)
    trial = draw_trials(signatures, 3, PLAN, usable)[4]
    (found,) = score_trials([trial], EmbeddingScorer(rows, fusion, changed))
    for scores, probes in (
        (found.mated, trial.mated),
        (found.skilled, trial.skilled),
        (found.random, trial.random),
    ):
        expected = [subject_score(changed[p], rows[trial.references], fusion) for p in probes]
        assert scores.tolist() == pytest.approx(expected, abs=1e-7)


def test_the_mean_of_similarities() -> None:
    values = np.random.default_rng(0).normal(size=(9, 9))
    scorer = MeanScorer(lambda reference, probes: values[reference, probes])
    found = scorer(np.array([1, 4, 2]), np.array([5, 8]))
    expected = [sum(values[r, p] for r in (1, 4, 2)) / 3 for p in (5, 8)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_pairs_are_formed_as_in_published_work() -> None:
    signatures = synthetic_signatures(writers=2, genuine=24, forged=30)
    rows = directions(signatures)
    pairs = draw_pairs(signatures, np.ones(len(rows), bool), seed=0)
    assert [each.writer for each in pairs] == ["a/00", "b/01"]
    scores = score_pairs(pairs, EmbeddingScorer(rows, "mean"))
    for each, found in zip(pairs, scores, strict=True):
        assert len(each.mated) == len(each.skilled) == 276
        genuine = sorted(_of(signatures, each.writer, False))
        assert [tuple(p) for p in each.mated.tolist()] == list(combinations(genuine, 2))
        drawn = {tuple(p) for p in each.skilled.tolist()}
        assert len(drawn) == 276
        assert {a for a, _ in drawn} <= set(genuine)
        assert {b for _, b in drawn} <= _of(signatures, each.writer, True)
        for kind, values in ((each.mated, found.mated), (each.skilled, found.skilled)):
            expected = [cosine(rows[a], rows[b]) for a, b in kind.tolist()]
            assert values.tolist() == pytest.approx(expected, abs=1e-6)


def test_too_few_forgeries_give_all_their_pairs() -> None:
    signatures = synthetic_signatures(writers=2, genuine=10, forged=2)
    (first, _) = draw_pairs(signatures, np.ones(len(signatures.paths), bool), seed=0)
    assert (len(first.mated), len(first.skilled)) == (45, 20)
