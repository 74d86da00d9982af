"""A calibration with bands, and the decisions that a verifier makes of it on the same images."""

from __future__ import annotations

import importlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder
from tests.unit.evaluation.coloured import SPEC, embedder, paint
from tests.unit.evaluation.people import made
from verifykit.datasets import Dataset
from verifykit.evaluation.bands import read_bands
from verifykit.evaluation.calibrate import calibrate, measured_points
from verifykit.evaluation.pairs import read_data
from verifykit.evaluation.reference_scores import draw_scores

BANDS = ("age=18", "site")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, dict[str, str]]:
    """Fourteen children who look more alike than fourteen adults, two people at another site."""
    folder = tmp_path_factory.mktemp("people")
    rows = paint(folder / "adults", 14, 3) + paint(folder / "children", 14, 3)
    lines, band_of = ["path,subject,age,site"], {}
    for path, who, _ in rows:
        young = "children" in path.parts
        name = f"{'c' if young else 'a'}{who}"
        age = "" if name == "as13" else "9" if young else "40"
        site = "far" if name in ("as1", "cs2") else "here"
        lines.append(f"{path},{name},{age},{site}")
        band_of[str(path)] = f"{age}|{site}"
    (folder / "people.csv").write_text("\n".join(lines), encoding="utf-8")
    return read_data(folder / "people.csv"), band_of


def test_any_keeps_each_rate_in_every_band_as_a_verifier_counts_it(
    people: tuple[Dataset, dict[str, str]],
) -> None:
    data, band_of = people
    found = calibrate(embedder(), data, counts=(1,), bands=BANDS, population="people")
    plain = calibrate(embedder(), data, counts=(1,), population="people")
    assert replace(found, populations=(), created="") == replace(plain, created="")
    (every,) = found.populations
    assert (every.name, every.default_attack) == ("any", "random_forgery")
    assert every.description == (
        "people; each rate is kept in every measured band of age (cut at 18) and site"
    )
    assert "site far is left out: 2 people who can be compared, 5 are the least" in every.notes
    assert "3 without a value of age are in no band" in every.notes
    verifier = vk.Verifier(encoder(SPEC), calibration=found, population="any")
    usual = vk.Verifier(encoder(SPEC), calibration=found)
    assert verifier.spec.digest == SPEC.digest
    images = data.images
    for point in every.operating_points:
        counts: dict[str, list[bool]] = {"<18": [], ">=18": [], "here": [], "all": []}
        missed = []
        for one, two in combinations(images, 2):
            decision = verifier.compare(one.path, two.path, fmr=point.fmr)
            assert decision.threshold == point.threshold
            assert decision.population == every.description
            assert decision.threshold >= usual.compare(one.path, two.path, fmr=point.fmr).threshold
            if one.subject == two.subject:
                missed.append(not decision.match)
                continue
            ages, sites = zip(*(band_of[str(i.path)].split("|") for i in (one, two)), strict=True)
            counts["all"].append(decision.match)
            for name, is_in in (
                ("<18", ages == ("9", "9")),
                (">=18", ages == ("40", "40")),
                ("here", sites == ("here", "here")),
            ):
                if is_in:
                    counts[name].append(decision.match)
        for events in counts.values():
            assert len(events) >= 3 / point.fmr * (1 - 1e-9)
            assert sum(events) <= point.fmr * len(events)
        assert point.fnmr == sum(missed) / len(missed)
    rates = {(rate.band, rate.fmr): rate for rate in every.bands}
    assert {band for band, _ in rates} == {"age <18", "age >=18", "site here", "site far"}
    for rate in every.bands:
        assert rate.usual is not None
        assert rate.found <= rate.usual


def test_what_is_joined_and_what_is_not_stated_is_said() -> None:
    people = made(30, 2)
    ages = [["5", "5", "15", "25"][int(who[1:]) % 4] for who in people.subjects]
    (bands,) = read_bands(
        replace(people, groups=[{"age": age} for age in ages]).data(), ["age=10,20"]
    )
    found = measured_points(
        people.rows, people.subjects, people.forged, "mean", counts=(1,), bands=[bands]
    )
    # 16, 7 and 7 people with two images: 480, 84 and 84 comparisons; 14 people have 364.
    assert [note for note in found.notes if "one band" in note] == [
        "from FMR 0.02 down age >=10 is one band: its parts have too few comparisons"
    ]
    assert found.notes[-1] == (
        "FMR 0.005 takes 600 non-mated comparisons in each band, and 'age >=10' has 364: "
        "lower rates are not stated"
    )
    assert [point.fmr for point in found.any_points] == [0.1, 0.05, 0.02, 0.01]
    assert [point.fmr for point in found.points][-1] == 0.002
    thresholds = [point.threshold for point in found.any_points]
    assert thresholds == sorted(thresholds)


def test_worst_band_makes_them_the_thresholds_that_decide(
    people: tuple[Dataset, dict[str, str]],
) -> None:
    data, _ = people
    found = calibrate(embedder(), data, counts=(1, 2), bands=BANDS, worst_band=True)
    (every,) = found.populations
    assert found.operating_points == every.operating_points
    assert found.population == every.description
    assert found.default_fmr == every.default_fmr
    assert {point.reference_count for point in found.operating_points} == {1, 2}
    laxer = calibrate(embedder(), data, counts=(1, 2))
    usual = {(p.fmr, p.reference_count): p for p in laxer.operating_points}
    for point, price in zip(every.operating_points, every.usual_fnmr, strict=True):
        of = usual[point.fmr, point.reference_count]
        assert point.threshold >= of.threshold
        assert price == of.fnmr
    again = vk.Calibration.from_json(found.to_json())
    assert again == found


def test_a_band_with_too_few_for_any_rate_is_an_error(
    people: tuple[Dataset, dict[str, str]],
) -> None:
    data, _ = people
    with pytest.raises(vk.CalibrationError, match=r"FMR 0\.1 takes 30 .* 'site far' has 9"):
        calibrate(embedder(), data, counts=(1,), bands=["site"], least_people=2)
    with pytest.raises(vk.InputError, match="worst_band takes bands"):
        calibrate(embedder(), data, worst_band=True)
    with pytest.raises(vk.InputError, match="no column 'sex'"):
        calibrate(embedder(), data, bands=["sex"])


def test_listed_pairs_are_banded_by_their_own_column(tmp_path: Path) -> None:
    rows = paint(tmp_path, 20, 2)
    images = [(path, who) for path, who, _ in rows]
    lines = ["probe,reference,mated,probe_subject,reference_subject,gap"]
    for n, ((one, who), (two, whom)) in enumerate(combinations(images, 2)):
        lines.append(f"{one},{two},{int(who == whom)},{who},{whom},{n % 2 * 10}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
    data = read_data(tmp_path / "pairs.csv")
    found = calibrate(embedder(), data, bands=["gap=5"])
    (every,) = found.populations
    assert {rate.band for rate in every.bands} == {"gap <5", "gap >=5"}
    assert sum(rate.non_mated_count for rate in every.bands if rate.fmr == 0.1) == 20 * 19 // 2 * 4


def test_a_subject_counts_in_a_band_with_several_references_if_all_images_do() -> None:
    people = made(12, 4)
    groups = [
        {"light": "dim" if int(who[1:]) < 6 or (who == "s06" and n % 2) else "bright"}
        for n, who in enumerate(people.subjects)
    ]
    (bands,) = read_bands(replace(people, groups=groups).data(), ["light"])
    scores = draw_scores(
        people.rows, people.subjects, people.forged, "mean", 2, bands=[bands.codes], draws=2
    )
    names = sorted(set(people.subjects))
    for who, code in zip(
        scores.non_mated.reference.tolist(),
        scores.non_mated.reference_bands[0].tolist(),
        strict=True,
    ):
        mine = {g["light"] for g, s in zip(groups, people.subjects, strict=True) if s == names[who]}
        assert code == (-1 if len(mine) > 1 else ["bright", "dim"].index(mine.pop()))


def test_too_many_pairs_are_refused_before_an_image_is_embedded(
    people: tuple[Dataset, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("verifykit.evaluation.calibrate")
    monkeypatch.setattr(module, "MOST_BANDED", 3000)
    done: list[int] = []
    with pytest.raises(vk.InputError, match=r"3,486 pairs are too many for bands"):
        calibrate(
            embedder(), people[0], bands=BANDS, on_progress=lambda count, _: done.append(count)
        )
    assert not done
