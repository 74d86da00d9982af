"""What `verify` and `identify` count."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encode, encoder, solid_image
from tests.helpers.model_specs import plain_spec
from verifykit.drift import ScoreWatch
from verifykit.gallery import open_gallery
from verifykit.spec import OperatingPoint

POINTS = tuple(
    OperatingPoint(fmr, threshold, 3_000_000, 30)
    for fmr, threshold in ((0.1, 0.97), (1e-2, 0.99), (1e-4, 0.9999))
)
SPEC = plain_spec(operating_points=POINTS)
SUBJECTS = 125


def _verifier(watch: ScoreWatch | Path | None) -> vk.Verifier:
    gallery = open_gallery(None, SPEC)
    colors = [
        (r, g, b) for r in range(0, 250, 50) for g in range(0, 250, 50) for b in range(0, 250, 50)
    ]
    rows = encode([solid_image(*color) for color in colors])
    for n, row in enumerate(rows):
        gallery.add(f"{n:04}", [vk.Template(row, SPEC.digest)])
    assert len(gallery) == SUBJECTS
    return vk.Verifier(encoder(SPEC), gallery, watch=watch)


@pytest.fixture
def watch() -> ScoreWatch:
    return ScoreWatch(SPEC, panel_subjects=SUBJECTS)


def test_a_verification_is_compared_with_all_but_the_claimed_subject(watch: ScoreWatch) -> None:
    verifier = _verifier(watch)
    verifier.verify("0000", solid_image(0, 0, 0))
    report = watch.report()
    assert (report.probes, report.scores) == (1, SUBJECTS - 1)
    rows = encode([solid_image(0, 0, 0)])
    found = verifier.gallery.search(rows, SUBJECTS, 0.97)[0]
    assert report.levels[0].count == len(found) - 1


def test_an_identification_leaves_out_its_best_candidate_alone(watch: ScoreWatch) -> None:
    verifier = _verifier(watch)
    assert verifier.identify(solid_image(200, 150, 100))
    assert watch.report().scores == SUBJECTS - 1
    assert not verifier.identify(solid_image(255, 0, 33))
    assert (watch.report().probes, watch.report().scores) == (2, 2 * SUBJECTS - 1)


def test_what_is_not_decided_is_not_counted(watch: ScoreWatch) -> None:
    verifier = _verifier(watch)
    verifier.compare(solid_image(1, 2, 3), solid_image(3, 2, 1))
    verifier.enroll("new", solid_image(9, 99, 9))
    with pytest.raises(vk.SubjectNotFoundError):
        verifier.verify("nobody", solid_image(1, 2, 3))
    assert watch.report().probes == 0


def test_a_watch_changes_no_decision(watch: ScoreWatch) -> None:
    with_watch, without = _verifier(watch), _verifier(None)
    assert without.watch is None
    for color in ((200, 150, 100), (255, 0, 33), (10, 20, 30)):
        image = solid_image(*color)
        assert with_watch.identify(image) == without.identify(image)
        assert with_watch.verify("0003", image) == without.verify("0003", image)


def test_a_path_is_a_file_of_counts_at_the_verifiers_rate(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    verifier = vk.Verifier(encoder(SPEC), fmr=1e-2, watch=path)
    assert verifier.watch is not None
    assert (verifier.watch.path, verifier.watch.levels.stated) == (path, 1e-2)
    assert copy.copy(verifier.watch).path == path


def test_a_model_without_a_calibration_cannot_be_watched(tmp_path: Path) -> None:
    spec = plain_spec(operating_points=(), default_fmr=None)
    with pytest.raises(vk.CalibrationError, match="not calibrated"):
        vk.Verifier(encoder(spec), watch=tmp_path / "scores.json")
