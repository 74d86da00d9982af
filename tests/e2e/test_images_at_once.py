"""Several images of one call are worked on at once, with the results and errors of one after the other."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PilImage

import verifykit as vk
from verifykit import _cpus
from verifykit._cpus import kept_pool
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.image import LoadedImage
from verifykit.models import load
from verifykit.session import Session
from verifykit.types import ImageLike, Sample, SampleRole

PEOPLE = ("person_a_1", "person_a_2", "person_b_1", "person_b_2")


@pytest.fixture(scope="module")
def two(face_model: Path) -> Encoder:
    return Encoder.open(face_model, providers="cpu", threads=2)


@pytest.fixture(scope="module")
def one(face_model: Path) -> Encoder:
    return Encoder.open(face_model, providers="cpu", threads=1)


class Watched(SampleExtractor):
    """Notes the thread of each image, and waits until every one is in another thread, if told to."""

    def __init__(self, extractor: SampleExtractor, together: int = 0) -> None:
        super().__init__(extractor.spec, extractor.detector)
        self.threads: list[int] = []
        self._barrier = threading.Barrier(together) if together else None

    def samples(
        self,
        image: ImageLike | LoadedImage,
        options: SampleOptions | None = None,
        *,
        role: SampleRole = "probe",
        limit: int | None = None,
    ) -> list[Sample]:
        self.threads.append(threading.get_ident())
        if self._barrier:
            self._barrier.wait(timeout=60)
        return super().samples(image, options, role=role, limit=limit)


@pytest.fixture
def watched(two: Encoder, one: Encoder) -> dict[int, tuple[vk.Verifier, Watched]]:
    return {
        threads: (
            vk.Verifier(Encoder(encoder.spec, encoder.encode, extractor, image_threads=threads)),
            extractor,
        )
        for threads, encoder, extractor in (
            (2, two, Watched(two.extractor, together=2)),
            (1, one, Watched(one.extractor)),
        )
    }


def test_both_images_of_a_comparison_are_worked_on_at_once(
    watched: dict[int, tuple[vk.Verifier, Watched]], portraits: Mapping[str, Path]
) -> None:
    verifier, extractor = watched[2]
    assert verifier.compare(portraits["person_a_1"], portraits["person_a_2"])
    assert len(set(extractor.threads)) == 2
    extractor.threads.clear()
    verifier.enroll("a", [portraits["person_a_1"], portraits["person_a_2"].read_bytes()])
    assert len(set(extractor.threads)) == 2


def test_one_thread_is_one_thread(
    watched: dict[int, tuple[vk.Verifier, Watched]], portraits: Mapping[str, Path], one: Encoder
) -> None:
    assert one.image_threads == 1
    verifier, extractor = watched[1]
    verifier.compare(portraits["person_a_1"], portraits["person_a_2"])
    verifier.enroll("a", [portraits["person_a_1"], portraits["person_a_2"]])
    assert set(extractor.threads) == {threading.get_ident()}


def test_open_files_and_pillow_images_are_read_by_the_thread_of_the_caller(
    one: Encoder, two: Encoder, portraits: Mapping[str, Path]
) -> None:
    extractor = Watched(two.extractor)
    verifier = vk.Verifier(
        Encoder(two.spec, two.encode, extractor, image_threads=two.image_threads)
    )
    file = io.BytesIO(portraits["person_a_1"].read_bytes())
    assert verifier.compare(file, file)
    with PilImage.open(portraits["person_a_1"]) as opened:
        assert verifier.compare(opened, opened)
    assert set(extractor.threads) == {threading.get_ident()}


def test_the_results_are_those_of_one_after_the_other(
    one: Encoder, two: Encoder, portraits: Mapping[str, Path]
) -> None:
    for probe in PEOPLE:
        for reference in PEOPLE:
            images = portraits[probe], portraits[reference]
            at_once, in_turn = (vk.Verifier(each).compare(*images) for each in (two, one))
            assert at_once.score == pytest.approx(in_turn.score, abs=1e-5)
            assert at_once.detections == in_turn.detections
    many = [portraits[name] for name in PEOPLE] * 3
    stored = []
    for encoder in (two, one):
        verifier = vk.Verifier(encoder)
        report = verifier.enroll("all", many)
        assert report.accepted == tuple(str(path) for path in many)
        stored.append([t.detection for t in verifier.gallery.get("all").templates])
    assert stored[0] == stored[1]


def test_the_error_is_that_of_the_first_image_that_has_one(
    two: Encoder, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    blank = tmp_path / "blank.png"
    PilImage.new("RGB", (300, 300), "white").save(blank)
    good, missing = portraits["person_a_1"], tmp_path / "missing.jpg"
    verifier = vk.Verifier(two)
    with pytest.raises(vk.AcquisitionError, match="no face"):
        verifier.compare(blank, missing)
    with pytest.raises(vk.ImageError, match="does not exist"):
        verifier.compare(missing, blank)
    with pytest.raises(vk.ImageError, match="does not exist"):
        verifier.compare(good, missing)
    report = verifier.enroll("a", [missing, good, blank, good])
    assert [refused.reason for refused in report.refused] == ["unreadable", "no_face"]
    assert len(report.accepted) == 2


def test_a_copy_and_a_pickle_keep_the_number(two: Encoder) -> None:
    assert two.limited(10_000_000).image_threads == 2
    assert copy.deepcopy(two).image_threads == 2
    assert Encoder.open(load("face"), threads=3).image_threads == 3


def test_a_detector_has_a_session_of_its_own_where_images_share_the_processors(
    two: Encoder, portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Session] = []
    run = Session.run

    def watched_run(session: Session, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if "cls_8" in session.output_names:
            used.append(session)
        return run(session, tensor)

    def detecting(verifier: vk.Verifier) -> set[Session]:
        used.clear()
        verifier.compare(portraits["person_a_1"], portraits["person_a_2"])
        return set(used)

    monkeypatch.setattr(Session, "run", watched_run)
    (sharing,) = detecting(vk.Verifier(two))
    used.clear()
    vk.Verifier(two).extract(portraits["person_a_1"])
    (alone,) = set(used)
    assert alone is not sharing
    # With two processors or more for each image, the network keeps its threads.
    many = vk.Verifier(Encoder(two.spec, two.encode, two.extractor, image_threads=4))
    assert detecting(many) == {alone}


def test_no_image_is_waited_for_in_a_pool_that_others_keep_busy(
    two: Encoder, portraits: Mapping[str, Path]
) -> None:
    release = threading.Event()
    busy = kept_pool("verifykit-image", 1).submit(release.wait, 60)
    try:
        assert vk.Verifier(two).compare(portraits["person_a_1"], portraits["person_a_2"])
        assert not busy.done()
    finally:
        release.set()


def test_one_pool_serves_any_number_of_images(two: Encoder, portraits: Mapping[str, Path]) -> None:
    verifier = vk.Verifier(Encoder(two.spec, two.encode, two.extractor, image_threads=7))
    before = set(_cpus.pools)
    images = [portraits["person_a_1"], portraits["person_a_2"], portraits["obama"]]
    verifier.compare(*images[:2])
    verifier.enroll("ada", images)
    assert set(_cpus.pools) - before == {("verifykit-image", 6)}
