"""The hardest comparisons against sorting all of them, and their pictures."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tests.helpers.fake_encoder import encoder
from tests.helpers.model_specs import signature_spec
from tests.unit.evaluation.made import paint
from tests.unit.evaluation.people import made, pairs_of
from verifykit.datasets import Dataset, LabelledImage
from verifykit.encoder import Encoder
from verifykit.errors import InputError
from verifykit.evaluation.embedding import ModelEmbedder
from verifykit.evaluation.hardest_pairs import crops_of, hardest_pairs
from verifykit.evaluation.pairs import Comparisons, ScoredComparisons, score_comparisons
from verifykit.evaluation.results import EvaluationReport, HardestPair
from verifykit.extraction import SampleExtractor

PEOPLE = made(8, 5, forgeries=3)
KINDS = {"mated": None, "random": "random_forgery", "skilled": "skilled_forgery"}


def _wanted(kind: str, count: int) -> list[tuple[float, set[int]]]:
    """Hardest first; each image once, two subjects together twice."""
    rows = [(score, i, j) for name, i, j, score in pairs_of(PEOPLE) if name == kind]
    rows.sort(reverse=kind != "mated")
    shown: set[int] = set()
    met: list[frozenset[str]] = []
    found: list[tuple[float, set[int]]] = []
    for score, i, j in rows:
        subjects = frozenset((PEOPLE.subjects[i], PEOPLE.subjects[j]))
        if {i, j} & shown or met.count(subjects) == 2 or len(found) == count:
            continue
        shown |= {i, j}
        met.append(subjects)
        found.append((score, {i, j}))
    return found


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_the_hardest_are_those_of_sorting_all(count: int) -> None:
    data = PEOPLE.data()
    found = hardest_pairs(data, score_comparisons(data, PEOPLE.embedded()), count)
    names = [image.name for image in data.images]
    told = [
        (pair.attack, pair.score, {names.index(pair.probe), names.index(pair.reference)})
        for pair in found
    ]
    wanted = [
        (attack, score, ends)
        for kind, attack in KINDS.items()
        for score, ends in _wanted(kind, count)
    ]
    assert told == wanted
    if count == 1000:
        assert len(told) > 3 * 5
    for pair in found:
        probe, reference = (names.index(name) for name in (pair.probe, pair.reference))
        assert pair.probe_subject == PEOPLE.subjects[probe]
        assert pair.reference_subject == PEOPLE.subjects[reference]
        assert (pair.probe_subject == pair.reference_subject) == (pair.attack != "random_forgery")


def test_one_bad_image_does_not_fill_the_list() -> None:
    """Of very many comparisons only the hardest are sorted, and they are found all the same."""
    images = tuple(LabelledImage(Path("x"), f"{n}", f"s{n}") for n in range(3000))
    random = np.random.default_rng(0)
    ends = random.permuted(np.tile(np.arange(3000), (5, 1)), axis=1).reshape(-1, 2).astype(np.int32)
    scores = random.uniform(-1, 0.5, len(ends)).astype(np.float32)
    bad = (ends == 7).any(axis=1)
    scores[bad] = 0.9
    nothing = Comparisons(ends[:0], ends[:0], scores[:0])
    scored = ScoredComparisons(nothing, Comparisons(*ends.T, scores), nothing, 0, 0)
    found = hardest_pairs(Dataset(Path("x"), "images", images, None), scored, 3)
    assert len(found) == 3
    assert sum("7" in (pair.probe, pair.reference) for pair in found) == 1
    others = sorted((s for s, b in zip(scores.tolist(), bad, strict=True) if not b), reverse=True)
    assert [pair.score for pair in found[1:]] == others[:2]


def _report(*names: str) -> EvaluationReport:
    """Of one model, with pairs of these images."""
    ends = zip(names[::2], names[1::2], strict=True)
    pairs = [HardestPair(None, 0.1, one, other, "a", "a") for one, other in ends]
    return cast("EvaluationReport", SimpleNamespace(models=[SimpleNamespace(worst=pairs)]))


def _picture(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "JPEG"
        return np.asarray(opened.convert("RGB"))


def test_pictures_are_crops_of_those_in_the_pairs(tmp_path: Path) -> None:
    shades = {f"{n}.png": 40 * n for n in range(6)}
    paint(tmp_path, shades | {"5.png": -1})
    images = tuple(LabelledImage(tmp_path / name, name, "a") for name in [*shades, "gone.png"])
    data = Dataset(tmp_path, "folder", images, None)
    report = _report("1.png", "4.png", "5.png", "gone.png")
    plain = ModelEmbedder(encoder(), "plain")
    found = crops_of(report, data, [plain])
    # One cannot be read, one is not there, and the others are in no pair.
    assert list(found) == ["1.png", "4.png"]
    for name, data_ in found.items():
        shown = _picture(data_)
        assert shown.shape == (8, 8, 3)
        assert np.abs(shown.astype(int) - shades[name]).max() <= 2
    # A model that finds nothing in it leaves it to the next.
    spec = signature_spec()
    blank = ModelEmbedder(
        Encoder(spec, lambda crops: cast("Any", crops), SampleExtractor(spec.crop)), "signature"
    )
    with pytest.raises(InputError):
        blank.crop((tmp_path / "1.png").read_bytes())
    assert crops_of(report, data, [blank, plain]) == found
    assert crops_of(report, data, [blank]) == {}


def test_large_crops_are_made_small(tmp_path: Path) -> None:
    page = np.full((400, 1200, 3), 250, np.uint8)
    page[180:220:4, 100:1100] = 30
    Image.fromarray(page).save(tmp_path / "s.png")
    spec = signature_spec()
    wide = replace(spec.crop, height_px=400, width_px=1200)
    spec = replace(spec, crop=wide, input=replace(spec.input, height_px=400, width_px=1200))
    embedder = ModelEmbedder(
        Encoder(spec, lambda crops: cast("Any", crops), SampleExtractor(spec.crop)),
        "signature",
        quality="warn",
    )
    image = LabelledImage(tmp_path / "s.png", "s.png", "a")
    data = Dataset(tmp_path, "folder", (image,), None)
    shown = _picture(crops_of(_report("s.png", "t.png"), data, [embedder])["s.png"])
    height, width = shown.shape[:2]
    assert (height <= 160, width <= 320, max(height / 160, width / 320)) == (True, True, 1.0)
    assert shown.min() < 150
