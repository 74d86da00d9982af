"""Thresholds from pictures, and the decisions that a verifier makes of them on the same pictures."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder
from tests.unit.evaluation.coloured import SPEC, embedder, listed, paint
from tests.unit.evaluation.people import made
from verifykit.datasets import ListedPair
from verifykit.evaluation.calibrate import calibrate, measured_points
from verifykit.evaluation.embedding import EmbeddingCache, embed_images
from verifykit.evaluation.pairs import data_digest, read_data, score_comparisons


def test_a_calibration_says_what_it_was_measured_on(tmp_path: Path) -> None:
    rows = paint(tmp_path, 8, 4)
    (tmp_path / "s1" / "0.png").write_text("no image")
    (tmp_path / "s2" / "3.png").unlink()
    for n in range(1, 4):
        (tmp_path / "s7" / f"{n}.png").unlink()
    data = listed(tmp_path, rows)
    calls: list[tuple[int, int]] = []
    found = calibrate(
        embedder(quality="warn", multi_face="largest"),
        data,
        on_progress=lambda *seen: calls.append(seen),
    )
    assert (found.model, found.spec_digest, found.fusion) == ("test-plain", SPEC.digest, "mean")
    assert (found.data, found.subject_count, found.image_count) == ("people.csv", 8, 27)
    assert found.failures == (("missing", 4), ("unreadable", 1))
    assert (found.multi_face, found.quality) == ("largest", "warn")
    assert found.verifykit_version == vk.__version__
    age = datetime.now(timezone.utc) - datetime.fromisoformat(found.created)
    assert 0 <= age.total_seconds() < 600
    digests = embed_images(embedder(), data.images, cache=None).file_digests
    assert found.data_digest == data_digest(data, digests)
    assert calls == [(n, 32) for n in range(33)]
    assert "people.csv: 27 images of 8 subjects, 5 more gave no template" in found.origin()
    # The one with one picture left is a stranger to the others, and enrolled by nobody.
    sizes = [4, 3, 3, 4, 4, 4, 4, 1]
    singles = sum(a * b for a, b in combinations(sizes, 2))
    threes = sum(sum(sizes) - size for size in sizes if size > 3)
    counts = {(p.reference_count, p.non_mated_count) for p in found.operating_points}
    assert (1, singles) in counts
    assert (3, threes) in counts
    assert calibrate(embedder(), data, name="staff", counts=(1,)).data == "staff"


def test_it_is_the_measured_points_of_the_embeddings(tmp_path: Path) -> None:
    rows = paint(tmp_path, 7, 4, forgeries=3)
    data = listed(tmp_path, rows)
    found = calibrate(embedder(), data, counts=(3, 1, 1, 9), draws=5, seed=2)
    embedded = embed_images(embedder(), data.images, cache=None)
    wanted = measured_points(
        embedded.rows,
        [image.subject for image in data.images],
        [image.is_forgery for image in data.images],
        "mean",
        counts=(1, 3),
        draws=5,
        seed=2,
    )
    assert (found.operating_points, found.evidence) == (wanted.points, wanted.evidence)
    assert {point.attack for point in found.operating_points} == {
        "random_forgery",
        "skilled_forgery",
    }


def test_strangers_are_those_of_the_own_population(tmp_path: Path) -> None:
    rows = paint(tmp_path, 8, 3)
    lines = [f"{path},{subject},p{int(subject[1:]) % 2}" for path, subject, _ in rows]
    (tmp_path / "p.csv").write_text("\n".join(["path,subject,population", *lines]))
    found = calibrate(embedder(), read_data(tmp_path / "p.csv"), counts=(1,))
    assert {point.non_mated_count for point in found.operating_points} == {2 * 6 * 9}


def test_the_same_data_decide_as_they_were_counted(tmp_path: Path) -> None:
    """From pictures to JSON to a verifier: what comes out is what the points say."""
    rows = paint(tmp_path / "people", 8, 4)
    data = read_data(tmp_path / "people")
    with EmbeddingCache(tmp_path / "c.sqlite") as cache:
        found = calibrate(embedder(), data, cache=cache)
        again = calibrate(embedder(), data, cache=cache)
    assert replace(again, created=found.created) == found
    (tmp_path / "mine.json").write_text(found.to_json(), encoding="utf-8")
    verifier = vk.Verifier(encoder(SPEC), calibration=tmp_path / "mine.json")
    assert verifier.spec.operating_points == found.operating_points
    assert verifier.spec.default_fmr == found.default_fmr == 1e-2
    singles = [point for point in found.operating_points if point.reference_count == 1]
    assert [point.fmr for point in singles] == [0.1, 0.05, 0.02, 0.01]
    pairs = list(combinations(rows, 2))
    for point in singles:
        matched = {True: [0, 0], False: [0, 0]}
        for (one, who, _), (other, whom, _) in pairs:
            decision = verifier.compare(one, other, fmr=point.fmr)
            assert (decision.threshold, decision.fmr) == (point.threshold, point.fmr)
            assert decision.match == (decision.score_fmr <= point.fmr)  # type: ignore[operator]
            matched[who == whom][decision.match] += 1
        assert matched[False] == [
            point.non_mated_count - point.false_match_count,
            point.false_match_count,
        ]
        assert point.fnmr == matched[True][False] / sum(matched[True])
    assert verifier.compare(rows[0][0], rows[1][0]).fmr == 1e-2
    with pytest.raises(vk.CalibrationError, match=r"on 448 non-mated .* at least 600"):
        verifier.compare(rows[0][0], rows[1][0], fmr=5e-3)
    # And with three references by the points of three.
    verifier.enroll("s0", [path for path, who, _ in rows if who == "s0"][:3])
    (three,) = (p for p in found.operating_points if (p.reference_count, p.fmr) == (3, 0.05))
    decision = verifier.verify("s0", rows[0][0], fmr=0.05)
    assert (decision.threshold, decision.reference_count) == (three.threshold, 3)
    assert decision.llr is not None


def test_listed_pairs_give_thresholds_of_single_references(tmp_path: Path) -> None:
    rows = paint(tmp_path, 6, 3, forgeries=2)
    names = [path for path, *_ in rows]
    lines = []
    for (one, who, forged), (other, whom, _) in combinations(rows, 2):
        if forged or (who != whom and names.index(other) % 5 > 2):
            continue
        imitation = who == whom and names.index(other) % 5 > 2
        first, second = (other, one) if imitation else (one, other)
        attack = "skilled_forgery" if imitation else ""
        lines.append(f"{first},{second},{int(who == whom and not imitation)},{attack}")
    (tmp_path / "pairs.csv").write_text("\n".join(["probe,reference,mated,attack", *lines]))
    (tmp_path / "s5" / "0.png").write_text("no image")
    data = read_data(tmp_path / "pairs.csv")
    found = calibrate(embedder(), data)
    scored = score_comparisons(data, embed_images(embedder(), data.images, cache=None))
    assert (len(scored.random.scores), len(scored.skilled.scores)) == (135 - 15, 36 - 2)
    assert {point.reference_count for point in found.operating_points} == {1}
    assert [(point.attack, point.fmr) for point in found.operating_points] == [
        ("random_forgery", 0.1),
        ("random_forgery", 0.05),
        ("skilled_forgery", 0.1),
    ]
    mated = scored.mated.scores.astype(np.float64)
    for point in found.operating_points:
        kind = scored.random if point.attack == "random_forgery" else scored.skilled
        matched = kind.scores.astype(np.float64) >= point.threshold
        assert (point.non_mated_count, point.false_match_count) == (matched.size, matched.sum())
        assert point.false_match_count == int(point.fmr * matched.size)
        assert point.fnmr == np.mean(mated < point.threshold)
        assert point.fnmr_interval is not None
    assert [evidence.mated_count for evidence in found.evidence] == [mated.size] * 2
    assert found.failures == (("unreadable", 1),)


@pytest.mark.parametrize("pairs", [False, True])
def test_too_few_comparisons_are_an_error_with_the_numbers(tmp_path: Path, pairs: bool) -> None:
    rows = paint(tmp_path, 4, 3)
    rows[5][0].write_text("no image")
    rows[11][0].unlink()
    for path, who, _ in rows:
        if who == "s2" and path.exists():
            path.write_text(f"no image either {path}")
    data = listed(tmp_path, rows)
    if pairs:
        ends = combinations(range(12), 2)
        data = replace(
            data, pairs=tuple(ListedPair(i, j, rows[i][1] == rows[j][1]) for i, j in ends)
        )
    # 3, 2 and 2 images are left.
    with pytest.raises(
        vk.CalibrationError,
        match=r"^16 non-mated .* 7 of 12 images gave a template \(4 unreadable, 1 missing\)",
    ):
        calibrate(embedder(), data)


def test_no_usable_image_is_an_error_with_the_numbers(tmp_path: Path) -> None:
    rows = paint(tmp_path, 3, 2)
    for path, *_ in rows:
        path.write_text("no image")
    with pytest.raises(vk.CalibrationError, match=r"^0 non-mated .* 0 of 6 .*\(6 unreadable\)"):
        calibrate(embedder(), listed(tmp_path, rows))


@pytest.mark.parametrize(("forgeries", "fmrs"), [(5, []), (6, [0.1]), (12, [0.1, 0.05])])
def test_one_subject_can_only_be_forged(tmp_path: Path, forgeries: int, fmrs: list[float]) -> None:
    data = listed(tmp_path, paint(tmp_path, 1, 5, forgeries))
    if not fmrs:
        with pytest.raises(vk.CalibrationError, match=r"^0 non-mated comparisons"):
            calibrate(embedder(), data)
        return
    found = calibrate(embedder(), data)
    assert [(p.attack, p.fmr) for p in found.operating_points] == [
        ("skilled_forgery", fmr) for fmr in fmrs
    ]
    assert {point.reference_count for point in found.operating_points} == {1}
    lowest = 5e-2 if 5e-2 in fmrs else None
    assert (found.default_fmr, found.default_attack) == (lowest, "skilled_forgery")


@pytest.mark.parametrize("counts", [(), (0,), (3, -1)])
def test_what_is_no_number_of_references(counts: tuple[int, ...]) -> None:
    with pytest.raises(vk.InputError, match="at least 1, got"):
        calibrate(embedder(), made(2, 2).data(), counts=counts)


def test_the_models_own_default_is_kept(tmp_path: Path) -> None:
    data = listed(tmp_path, paint(tmp_path, 8, 4))
    for fmr, attack, wanted in (
        (0.05, "random_forgery", 0.05),
        (0.03, "random_forgery", 0.03),  # lies above the lowest that was measured
        (1e-4, "random_forgery", 1e-2),
        (0.05, "skilled_forgery", None),
    ):
        spec = replace(SPEC, default_fmr=fmr, default_attack=attack)
        found = calibrate(embedder(spec), data, counts=(1,))
        assert (found.default_fmr, found.default_attack) == (wanted, attack)
        decide = vk.Verifier(encoder(spec), calibration=found).compare
        if wanted is None:
            with pytest.raises(vk.CalibrationError):
                decide(data.images[0].path, data.images[1].path)
        else:
            decision = decide(data.images[0].path, data.images[1].path)
            assert decision.fmr == {0.03: 0.02}.get(wanted, wanted)
