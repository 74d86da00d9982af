"""A whole evaluation with a model that tells pictures by their shade."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

import verifykit
from tests.unit.evaluation.made import NO_FACE, ShadeEmbedder, paint
from tests.unit.evaluation.people import made
from verifykit.datasets import Dataset, ListedPair
from verifykit.errors import InputError
from verifykit.evaluation.embedding import EmbeddingCache, embed_images
from verifykit.evaluation.evaluate import Measurement, evaluate, measure_model
from verifykit.evaluation.pairs import data_digest, read_data
from verifykit.evaluation.results import EvaluationReport, Failure, ModelResult
from verifykit.spec import OperatingPoint


class Blind(ShadeEmbedder):
    """Sees nothing below a shade."""

    model = name = digest = cache_key = "blind"

    def __init__(self, below: int) -> None:
        self._below = below

    def embed(self, image: bytes) -> np.ndarray:
        row = super().embed(image)
        if row @ self.vector(0) > self.vector(self._below) @ self.vector(0):
            return super().embed(b"no image")
        return row


def people(folder: Path, subjects: int = 12, **more: int) -> Dataset:
    """Each has three pictures of about one shade."""
    shades = {
        f"s{subject:02}/{n}.png": 20 + 18 * subject + 3 * n
        for subject in range(subjects)
        for n in range(3)
    }
    return read_data(
        paint(folder, shades | {f"{k.replace('_', '/')}.png": v for k, v in more.items()})
    )


def run(
    data: Dataset, *embedders: ShadeEmbedder, **options: object
) -> tuple[EvaluationReport, ModelResult]:
    report = evaluate(
        embedders or [ShadeEmbedder()],
        data,
        **options,  # type: ignore[arg-type]
    )
    return report, report.models[0]


def test_a_report_says_what_was_measured(tmp_path: Path) -> None:
    data = people(tmp_path, s00_x=NO_FACE, s00_y=-1, s01_x=NO_FACE, s12_a=-1)
    (tmp_path / "s01" / "notes.txt").touch()
    data = read_data(tmp_path)
    report, result = run(data)
    assert (report.data, report.kind) == (str(tmp_path), "folder")
    assert (report.image_count, report.subject_count) == (40, 13)
    assert (report.multi_face, report.quality) == ("error", "strict")
    assert report.verifykit_version == verifykit.__version__
    age = datetime.now(timezone.utc) - datetime.fromisoformat(report.created)
    assert 0 <= age.total_seconds() < 600
    digests = embed_images(ShadeEmbedder(), data.images, cache=None).file_digests
    assert report.data_digest == data_digest(data, digests)
    for name in ("model", "name", "digest", "modality", "licence", "fusion"):
        assert getattr(result, name) == "shade"
    assert (result.image_count, result.acquired_count) == (40, 36)
    assert result.failures == (
        Failure("no_face", 2, ("s00/x.png", "s01/x.png")),
        Failure("unreadable", 2, ("s00/y.png", "s12/a.png")),
    )
    assert (result.fta.errors, result.fta.trials) == (4, 40)
    assert (result.fte.errors, result.fte.trials) == (1, 13)
    assert result.fta.low <= 0.1 <= result.fta.high
    # Of s00 five images are ten pairs, of s01 four are six: three pairs of each are left.
    assert result.lost_mated == 7 + 3
    everybody = [5, 4, *[3] * 10, 1]
    asked = sum(a * b for n, a in enumerate(everybody) for b in everybody[n + 1 :])
    (attack,) = result.attacks
    assert attack.attack == "random_forgery"
    assert (attack.mated_count, attack.non_mated_count) == (36, 66 * 9)
    assert result.lost_non_mated == asked - 66 * 9
    assert result.notes == (
        "1 file(s) without an image's suffix left out: s01/notes.txt",
        "No 1:N searches: they take 10 subjects with two usable images and 5 more subjects.",
    )
    assert (result.open_set, result.folds, result.subgroups) == ((), None, ())
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["models"][0]["failures"][0]["reason"] == "no_face"
    assert told["models"][0]["attacks"][0]["eer"]["value"] == attack.eer.value


def test_a_model_without_any_sense_is_reported_as_json_all_the_same(tmp_path: Path) -> None:
    # Two subjects are told apart by nothing: no finite threshold is of use.
    paint(tmp_path, {"a0.png": 20, "a1.png": 220, "a2.png": 20, "b0.png": 20})
    rows = ["a0,a1,1", "a0,a2,1", "a0,b0,0", "a2,b0,0"]
    rows = [row.replace(",", ".png,") for row in rows]
    (tmp_path / "pairs.csv").write_text("\n".join(["probe,reference,mated", *rows]))
    report, result = run(read_data(tmp_path / "pairs.csv"))
    (attack,) = result.attacks
    assert (attack.eer.value, attack.eer_threshold) == (0.5, math.inf)
    (told,) = report.to_dict()["models"][0]["attacks"]
    assert (told["eer"]["value"], told["eer_threshold"]) == (0.5, None)
    # And the other way round: neither kind varies, so that their distance is infinite.
    shades = {"a/0.png": 20, "a/1.png": 20, "b/0.png": 220, "b/1.png": 220}
    report, result = run(read_data(paint(tmp_path / "better", shades)))
    assert result.attacks[0].d_prime == math.inf
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_several_models_on_the_same_data(tmp_path: Path) -> None:
    data = people(tmp_path)
    seen: list[tuple[str, int, int]] = []
    report, _ = run(data, ShadeEmbedder(), Blind(100), on_progress=lambda *each: seen.append(each))
    assert [model.model for model in report.models] == ["shade", "blind"]
    # Of the shades from 20 to 227 fifteen are below 100.
    assert [model.acquired_count for model in report.models] == [36, 36 - 15]
    assert report.models[1].failures[0].reason == "unreadable"
    assert seen == [(model, n, 36) for model in ("shade", "blind") for n in range(37)]
    alone, _ = run(data)
    assert alone.models == report.models[:1]
    assert alone.data_digest == report.data_digest


def test_a_cache_gives_the_same_results_and_computes_nothing(tmp_path: Path) -> None:
    data = people(tmp_path / "people", s00_x=NO_FACE)
    with EmbeddingCache(tmp_path / "c.sqlite") as cache:
        first, second = ShadeEmbedder(), ShadeEmbedder()
        one, other = (run(data, embedder, cache=cache)[1] for embedder in (first, second))
    assert one == other
    assert (first.calls, second.calls) == (37, 0)


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        # Every subject's images but one are no images.
        (
            [f"s0{s}/{n}.png" for s in range(3) for n in (1, 2)],
            "no mated .*: 3 of 9 .*6 unreadable",
        ),
        (
            [f"s0{s}/{n}.png" for s in (1, 2) for n in range(3)],
            "no non-mated .*: 3 of 9 .*6 unread",
        ),
        (
            [f"s0{s}/{n}.png" for s in range(3) for n in range(3)],
            "no non-mated .*: 0 of 9 .*9 unread",
        ),
    ],
)
def test_data_without_one_kind_of_comparisons(
    tmp_path: Path, lost: Sequence[str], named: str
) -> None:
    people(tmp_path, subjects=3)
    paint(tmp_path, dict.fromkeys(lost, -1))
    with pytest.raises(InputError, match=f"model 'shade' has {named}"):
        run(read_data(tmp_path))


def test_failures_are_counted_by_reason_in_the_error(tmp_path: Path) -> None:
    data = people(tmp_path, subjects=2)
    paint(tmp_path, {"s00/0.png": -1, "s01/0.png": -1})
    paint(tmp_path, dict.fromkeys(["s00/1.png", "s01/1.png", "s01/2.png"], NO_FACE))
    (tmp_path / "s00" / "2.png").unlink()
    with pytest.raises(InputError, match=r"\(3 no_face, 2 unreadable, 1 missing\)"):
        run(data)


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model"):
        evaluate([], people(tmp_path))


def test_models_of_one_report_have_the_same_options(tmp_path: Path) -> None:
    lenient = ShadeEmbedder()
    lenient.quality = "warn"
    assert run(people(tmp_path), lenient)[0].quality == "warn"
    with pytest.raises(InputError, match=r"got \[\('error', 'strict'\), \('error', 'warn'\)\]"):
        run(people(tmp_path), ShadeEmbedder(), lenient)


def test_skilled_forgeries_are_an_attack_of_their_own() -> None:
    crowd = made(16, 4, forgeries=3)
    points = (
        OperatingPoint(1e-1, 0.3, 30, 3),
        OperatingPoint(1e-1, 0.6, 30, 3, "skilled_forgery"),
        OperatingPoint(1e-1, 0.5, 30, 3, "skilled_forgery", 3),
    )
    embedder = ShadeEmbedder()
    embedder.operating_points = points
    found = measure_model(embedder, crowd.data(), crowd.embedded(), Measurement())
    assert [attack.attack for attack in found.attacks] == ["random_forgery", "skilled_forgery"]
    random, skilled = found.attacks
    assert (random.mated_count, random.non_mated_count) == (16 * 6, 120 * 16)
    assert (skilled.mated_count, skilled.non_mated_count) == (16 * 6, 16 * 4 * 3)
    assert [[row.threshold for row in each.own] for each in (random, skilled)] == [[0.3], [0.6]]
    # Forgeries are neither enrolled nor searched for, and are no failures.
    assert [each.gallery_size for each in found.open_set] == [10]
    (searches,) = found.open_set
    assert searches.mated_searches == searches.draws * 10 * 3
    assert searches.non_mated_searches == searches.draws * 6 * 4
    assert found.acquired_count == 16 * 7


def test_what_failed_is_neither_enrolled_nor_searched_for() -> None:
    crowd = made(16, 4, forgeries=1)
    mine = [n for n, subject in enumerate(crowd.subjects) if subject == "s03"]
    mine.sort(key=lambda n: crowd.forged[n])
    others = [n for n, subject in enumerate(crowd.subjects) if subject == "s04"]
    genuine = [n for n in others if not crowd.forged[n]]
    lost = dict.fromkeys([*mine, genuine[0]], "blank")
    found = measure_model(ShadeEmbedder(), crowd.data(), crowd.embedded(lost), Measurement())
    # Of one subject nothing is left, of another three images of four.
    (searches,) = found.open_set
    together = searches.mated_searches + searches.non_mated_searches
    assert together == searches.draws * (15 * 4 - 1 - 10)
    assert (found.fta.errors, found.fta.trials) == (6, 16 * 5)
    assert (found.fte.errors, found.fte.trials) == (1, 16)
    # An imitation enrols nobody, and who has nothing but imitations is nobody to enrol.
    for kept, trials in ((mine[:1], 16), ([], 15)):
        images = [n for n in range(80) if n in kept or n not in mine or crowd.forged[n]]
        few = crowd.only(images)
        gone = {n: "blank" for n, m in enumerate(images) if m in kept}
        told = measure_model(ShadeEmbedder(), few.data(), few.embedded(gone), Measurement())
        assert (told.fte.errors, told.fte.trials) == (len(kept), trials)


def test_searches_can_be_left_out() -> None:
    crowd = made(16, 2)
    how = Measurement(open_set=False, hardest_pairs=0, fmrs=(0.2,))
    found = measure_model(ShadeEmbedder(), crowd.data(), crowd.embedded(), how)
    assert (found.open_set, found.worst, found.notes) == ((), (), ())
    assert [row.asked_fmr for row in found.attacks[0].rates] == [0.2]


def test_subgroups_are_measured_at_the_strictest_threshold_down_to_1e_3() -> None:
    crowd = made(25, 5)
    crowd = replace(crowd, groups=[{"half": "01"[n % 2]} for n in range(125)])
    data, embedded = crowd.data(), crowd.embedded()
    # 7,500 non-mated comparisons support 1e-3, and 4e-4 if it is asked for.
    for fmrs, chosen in (((0.1, 1e-2, 1e-3, 4e-4), 1e-3), ((5e-4, 4e-4), 4e-4), ((1e-5,), None)):
        found = measure_model(ShadeEmbedder(), data, embedded, Measurement(fmrs=fmrs))
        assert {group.asked_fmr for group in found.subgroups} == ({chosen} if chosen else set())
        if chosen:
            (row,) = (row for row in found.attacks[0].rates if row.asked_fmr == chosen)
            assert {group.threshold for group in found.subgroups} == {row.threshold}
            assert [group.value for group in found.subgroups] == ["0", "1"]


def test_pairs_of_unnamed_subjects_are_noted() -> None:
    crowd = made(3, 3)
    pairs = [
        ListedPair(i, j, crowd.subjects[i] == crowd.subjects[j]) for i in range(9) for j in range(i)
    ]
    data = crowd.data(pairs)
    told = measure_model(ShadeEmbedder(), data, crowd.embedded(), Measurement())
    assert told.notes == ()
    unnamed = replace(data, has_subjects=False)
    told = measure_model(ShadeEmbedder(), unnamed, crowd.embedded(), Measurement())
    assert len(told.notes) == 1
    assert told.notes[0].startswith("The pairs name no subjects")
    assert told.open_set == ()
