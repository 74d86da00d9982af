"""Rates by band against counting them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.evaluation.people import People, made, pairs_of
from verifykit.datasets import Dataset, ListedPair
from verifykit.errors import InputError
from verifykit.evaluation.bands import ACROSS, BandColumn, Bands, measure_bands, read_bands
from verifykit.evaluation.pairs import score_comparisons
from verifykit.evaluation.results import Band, Rate, RateAtFmr
from verifykit.evaluation.tiled_scores import TiledComparisons

ANYTHING = Rate(0.0, 0.0, 1.0, 0, 1)
PEOPLE = made(9, 4)
AT = (RateAtFmr(1e-1, 0.2, ANYTHING, ANYTHING), RateAtFmr(1e-2, 0.5, ANYTHING, ANYTHING))


def _with(groups: list[dict[str, str]]) -> People:
    return replace(PEOPLE, groups=groups)


def _found(data: Dataset, people: People, *texts: str) -> tuple[Band, ...]:
    scored = score_comparisons(data, people.embedded())
    return measure_bands(data, scored, people.labels, AT, read_bands(data, texts))


@pytest.mark.parametrize(
    ("text", "columns", "edges"),
    [
        ("sex", ("sex",), ()),
        ("age=0,7,13.5", ("age",), (0.0, 7.0, 13.5)),
        (" sex + age =18", ("sex", "age"), (18.0,)),
    ],
)
def test_a_band_is_a_column_and_its_edges(
    text: str, columns: tuple[str, ...], edges: tuple[float, ...]
) -> None:
    assert BandColumn.parse(text) == BandColumn(columns, edges)


@pytest.mark.parametrize(
    "text", ["", "=1", "age=", "age=7,1", "age=1,1", "age=a", "age=nan", "age=inf", "a++b"]
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="age=0,7,13,18, got"):
        BandColumn.parse(text)


def test_edges_are_the_first_values_of_bands() -> None:
    ages = ["-1", "0", "6.9", "7", "12", "13", "80", ""]
    people = _with([{"age": ages[n % 8]} for n in range(36)])
    (bands,) = read_bands(people.data(), ["age=0,7,13"])
    labels = [bands.label(code) if code >= 0 else "" for code in bands.codes[:8].tolist()]
    assert labels == ["age <0", *["age 0 to <7"] * 2, *["age 7 to <13"] * 2, *["age >=13"] * 2, ""]
    assert bands.label(1, 2) == "age 0 to <13"
    assert bands.label(0, 3) == "age any"
    assert bands.only([3, 7]).codes.tolist() == [2, -1]


def test_combinations_are_bands_and_only_neighbours_of_one_value_may_be_joined() -> None:
    groups = [{"sex": "fm"[n % 2], "age": str(5 + 10 * (n % 3))} for n in range(36)]
    (bands,) = read_bands(_with(groups).data(), ["sex+age=10,20"])
    names = [bands.label(code) for code in range(len(bands))]
    assert names == [
        f"sex {sex}, age {age}" for sex in "fm" for age in ("<10", "10 to <20", ">=20")
    ]
    assert bands.ranges() == [(0, 1, 2), (3, 4, 5)]
    (plain,) = read_bands(_with(groups).data(), ["sex+age"])
    assert plain.label(0) == "sex f, age 15"
    assert plain.ranges() == [(code,) for code in range(6)]


def test_both_images_of_a_comparison_are_of_the_band() -> None:
    groups = [
        {"age": str(int(subject[1:]) * 3), "light": ["dim", "bright", ""][n % 3]}
        for n, subject in enumerate(PEOPLE.subjects)
    ]
    people = _with(groups)
    found = _found(people.data(), people, "age=10,20", "light")
    assert [(band.column, band.band) for band in found] == [
        *(("age", name) for name in ("age <10", "age 10 to <20", "age >=20", ACROSS)),
        *(("light", name) for name in ("light bright", "light dim", ACROSS)),
    ]

    def band_of(image: int, column: str) -> str:
        if column == "light":
            value = groups[image]["light"]
            return value and f"light {value}"
        age = int(groups[image]["age"])
        return "age <10" if age < 10 else "age 10 to <20" if age < 20 else "age >=20"

    for band in found:
        mine = []
        for kind, i, j, score in pairs_of(people):
            one, two = (band_of(image, band.column) for image in (i, j))
            if one and two and (one == two == band.band or (band.band == ACROSS and one != two)):
                mine.append((kind, i, j, score))
        people_seen = {PEOPLE.subjects[image] for _, i, j, _ in mine for image in (i, j)}
        assert band.subject_count == len(people_seen)
        for row, at in zip(band.rates, AT, strict=True):
            missed = [score < at.threshold for kind, _, _, score in mine if kind == "mated"]
            false = [score >= at.threshold for kind, _, _, score in mine if kind == "random"]
            assert (band.mated_count, band.non_mated_count) == (len(missed), len(false))
            assert row.is_supported == (len(false) >= 3 / at.requested)
            for rate, events in ((row.fnmr, missed), (row.fmr, false)):
                if not events:
                    assert rate is None
                    continue
                assert rate is not None
                assert (rate.errors, rate.trials) == (sum(events), len(events))
                assert rate.low <= rate.value <= rate.high
            if row.fmr is not None:
                assert row.got_over_requested is not None
                assert row.got_over_requested.value == row.fmr.value / at.requested
                assert row.got_over_requested.high == row.fmr.high / at.requested


def test_listed_pairs_have_a_band_of_their_own() -> None:
    table = list(pairs_of(PEOPLE))
    years = ["1", "12", ""]
    pairs = [
        ListedPair(i, j, kind == "mated", groups={"years": years[n % 3]})
        for n, (kind, i, j, _) in enumerate(table)
    ]
    data = PEOPLE.data(pairs)
    found = _found(data, PEOPLE, "years=0,10")
    assert [band.band for band in found] == ["years 0 to <10", "years >=10"]
    for number, band in enumerate(found):
        mine = [row for n, row in enumerate(table) if n % 3 == number]
        assert band.mated_count + band.non_mated_count == len(mine)
        false = sum(kind == "random" and score >= 0.2 for kind, _, _, score in mine)
        assert band.rates[0].fmr is not None
        assert band.rates[0].fmr.errors == false


def test_what_cannot_be_cut_is_named() -> None:
    people = _with([{"age": "old" if n == 3 else "4", "id": str(n)} for n in range(36)])
    for text, named in (
        ("sex", "no column 'sex' to make bands of; they have: 'age', 'id'"),
        ("age=7", "column 'age' is cut at numbers, and 'old' is not one"),
    ):
        with pytest.raises(InputError, match=named):
            read_bands(people.data(), [text])
    many = made(60, 2)
    wide = replace(many, groups=[{"id": str(n)} for n in range(120)])
    with pytest.raises(InputError, match="makes 120 bands, at most 50"):
        read_bands(wide.data(), ["id"])
    with pytest.raises(InputError, match="none; give a CSV with one"):
        read_bands(PEOPLE.data(), ["age"])


def test_codes_are_small_integers_and_say_who_has_no_value() -> None:
    (bands,) = read_bands(_with([{"g": "" if n else "x"} for n in range(36)]).data(), ["g"])
    assert isinstance(bands, Bands)
    assert bands.codes.dtype == np.int16
    assert bands.codes.tolist() == [0] + [-1] * 35


def test_bands_of_comparisons_that_are_not_held_have_the_same_rates() -> None:
    ages = [str(int(subject[1:]) * 3) for subject in PEOPLE.subjects]
    people = _with([{"age": age} for age in ages])
    data, bands = people.data(), read_bands(people.data(), ["age=10,20"])
    held = measure_bands(
        data, score_comparisons(data, people.embedded({3: "blank"})), people.labels, AT, bands
    )
    tiled = measure_bands(
        data, TiledComparisons(data, people.embedded({3: "blank"})), people.labels, AT, bands
    )
    assert [band.band for band in tiled] == [band.band for band in held[:-1]]
    for one, other in zip(held[:-1], tiled, strict=True):
        assert one.subject_count == other.subject_count
        assert (one.mated_count, one.non_mated_count) == (other.mated_count, other.non_mated_count)
        for mine, theirs in zip(one.rates, other.rates, strict=True):
            assert mine.is_supported == theirs.is_supported
            for name in ("fmr", "fnmr"):
                rate, again = getattr(mine, name), getattr(theirs, name)
                assert (rate.errors, rate.trials) == (again.errors, again.trials)
