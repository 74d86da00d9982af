"""Groups of unknown faces: what a graph's groups must be, whatever the way to find them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture

from tests.helpers.model_specs import plain_spec
from verifykit.clustering import ClusteredFace, cluster_folder, cluster_rows, cluster_rule
from verifykit.encoder import Encoder
from verifykit.errors import CalibrationError, InputError, TemplateFormatError
from verifykit.extraction import SampleExtractor
from verifykit.scoring import cosine
from verifykit.spec import Cohort
from verifykit.types import Embeddings, Image


def rows_of(people: Sequence[int], noise: float = 0.5, seed: int = 3) -> Embeddings:
    """A row for each entry: near others of the same number, far from the rest."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(people, default=0) + 1, 64))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rows = centres[list(people)] + noise * rng.normal(size=(len(people), 64)) / 8
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pair(cosine: float) -> Embeddings:
    return np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]], np.float32)


def two_cliques_and_a_bridge() -> Embeddings:
    """Rows 0 to 4 are one person, 5 to 9 another; 4 and 5 alone are alike across."""
    basis = np.eye(14)
    rows = [np.sqrt(0.7) * basis[0] + np.sqrt(0.3) * basis[2 + i] for i in range(5)]
    rows += [np.sqrt(0.7) * basis[1] + np.sqrt(0.3) * basis[7 + i] for i in range(5)]
    rows[4] = rows[4] + 0.6 * basis[1]
    rows[5] = rows[5] + 0.6 * basis[0]
    return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


def test_people_come_out_largest_first() -> None:
    people = [2, 0, 1, 2, 1, 2, 3]
    assert cluster_rows(rows_of(people), 0.5).tolist() == [1, 3, 2, 1, 2, 1, 4]


def test_one_false_edge_does_not_join_two_people() -> None:
    rows = two_cliques_and_a_bridge()
    scores = rows @ rows.T
    alike = scores >= 0.55
    assert alike[4, 5]
    assert alike[:5, 5:].sum() == 1  # the one false edge; components would join them
    assert alike[:5, :5].all()
    assert alike[5:, 5:].all()
    assert cluster_rows(rows, 0.55).tolist() == [1] * 5 + [2] * 5


def test_the_threshold_itself_is_a_match() -> None:
    score = cosine(*pair(0.8))
    assert cluster_rows(pair(0.8), score).tolist() == [1, 1]
    assert cluster_rows(pair(0.8), float(np.nextafter(score, 1.0))).tolist() == [1, 2]


def test_no_rows_and_one_row() -> None:
    assert cluster_rows(np.empty((0, 8), np.float32), 0.5).tolist() == []
    assert cluster_rows(np.eye(1, 8, dtype=np.float32), 0.5).tolist() == [1]


def test_what_is_no_embedding_is_refused() -> None:
    with pytest.raises(TemplateFormatError, match="unit length"):
        cluster_rows(np.ones((3, 8), np.float32), 0.5)
    with pytest.raises(InputError, match="finite"):
        cluster_rows(rows_of([0, 1]), float("nan"))


@given(
    people=st.lists(st.integers(0, 4), min_size=1, max_size=30),
    noise=st.floats(0.1, 2.0),
    threshold=st.floats(-1.0, 1.0),
    seed=st.integers(0, 9),
)
def test_groups_are_connected_within_components_and_numbered_by_size(
    people: list[int], noise: float, threshold: float, seed: int
) -> None:
    rows = rows_of(people, noise, seed)
    labels = cluster_rows(rows, threshold)
    assert (cluster_rows(rows.copy(), threshold) == labels).all()
    # Well off the threshold, as this product rounds otherwise than a score.
    product = rows.astype(np.float64) @ rows.T.astype(np.float64)
    sure, possible = product >= threshold + 1e-5, product >= threshold - 1e-5
    np.fill_diagonal(sure, False)
    for label in range(1, int(labels.max()) + 1):
        group = np.flatnonzero(labels == label)
        assert len(_reached(possible, group)) == len(group)
    alone = [place for place in range(len(rows)) if (labels == labels[place]).sum() == 1]
    assert not sure[np.ix_(alone, alone)].any()  # two of them would have joined
    sizes = np.bincount(labels)[1:]
    assert (np.diff(sizes) <= 0).all()
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in range(1, len(sizes) + 1)]
    assert all(
        a < b for a, b, s, t in zip(firsts, firsts[1:], sizes, sizes[1:], strict=False) if s == t
    )


def _reached(alike: NDArray[np.bool_], group: NDArray[np.int64]) -> set[int]:
    seen = {int(group[0])}
    while more := {int(o) for p in seen for o in group if alike[p, o]} - seen:
        seen |= more
    return seen


def test_the_rate_follows_the_number_of_faces_down_to_the_lowest() -> None:
    spec = plain_spec()
    rates = [cluster_rule(spec, count).fmr for count in (0, 1, 20, 300, 100_000)]
    assert rates == [1e-4, 1e-4, 1e-4, 1e-6, 1e-6]
    assert cluster_rule(spec, 5, fmr=1e-2).threshold == 0.2
    assert cluster_rule(spec, 5, threshold=0.33).fmr is None
    with pytest.raises(CalibrationError, match="calibrated down to"):
        cluster_rule(spec, 5, fmr=1e-9)
    with pytest.raises(InputError, match="give one of them"):
        cluster_rule(spec, 5, fmr=1e-2, threshold=0.3)


def test_look_alikes_of_a_cohort_are_parted() -> None:
    rows = np.array([[1, 0.2, 0], [1, -0.2, 0], [0, 0.2, 1], [0, -0.2, 1]], np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    crowd = Cohort.of(np.array([[1, 0, 0]], np.float32), 1, 0.5)
    assert cluster_rows(rows, 0.9).tolist() == [1, 1, 2, 2]
    assert cluster_rows(rows, 0.9, cohort=crowd).tolist() == [2, 3, 1, 1]


def encode(crops: Sequence[Image]) -> Embeddings:
    rows = np.array([[*crop[0, 0], 1.0] for crop in crops], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_folder_gives_its_faces_in_order_and_what_could_not_be_used(tmp_path: Path) -> None:
    colours = {
        "b.png": (255, 0, 0),
        "a/1.png": (0, 255, 0),
        "a.png": (250, 9, 0),
        "c.png": (0, 0, 255),
    }
    for name, colour in colours.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Picture.new("RGB", (8, 8), colour).save(tmp_path / name)
    (tmp_path / "a/broken.jpg").write_bytes(b"no picture")
    spec = plain_spec()
    images: list[tuple[int, int]] = []
    faces: list[tuple[int, int]] = []
    found = cluster_folder(
        Encoder(spec, encode, SampleExtractor(spec.crop)),
        tmp_path,
        on_image=lambda *told: images.append(told),
        on_face=lambda *told: faces.append(told),
    )
    assert [(face.image, face.face, face.cluster) for face in found.faces] == [
        ("a/1.png", 1, 2),
        ("a.png", 1, 1),
        ("b.png", 1, 1),
        ("c.png", 1, 3),
    ]
    assert found.faces[0] == ClusteredFace("a/1.png", 1, 2, None, ())
    assert [(each.image, each.reason) for each in found.refused] == [("a/broken.jpg", "unreadable")]
    assert (found.cluster_count, found.rule.fmr) == (3, 1e-4)
    assert images == [(done, 5) for done in range(6)]
    assert faces == [(0, 4), (4, 4)]


def test_an_impossible_rate_is_told_before_any_image_is_read(tmp_path: Path) -> None:
    spec = plain_spec()
    encoder = Encoder(spec, encode, SampleExtractor(spec.crop))
    with pytest.raises(CalibrationError):
        cluster_folder(encoder, tmp_path / "missing", fmr=1e-9)
    with pytest.raises(InputError, match="not a folder"):
        cluster_folder(encoder, tmp_path / "missing")
