"""Insightface's verification files: a pickle, of which nothing but images and booleans is loaded."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.model_specs import signature_spec
from tests.unit.evaluation.made import ShadeEmbedder
from verifykit.encoder import Encoder
from verifykit.errors import InputError
from verifykit.evaluation import ModelEmbedder, evaluate
from verifykit.evaluation.pairs import read_data
from verifykit.insightface_bin import read_verification_file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _image(shade: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((4, 4, 3), shade, np.uint8))[1])


def _pairs(count: int) -> tuple[list[bytes], list[bool]]:
    """Person n has the shades 10 n + 5 and 10 n + 6; pairs are mated and not, in turn."""
    images, same = [], []
    for n in range(count):
        person, other = n // 2 % 20, (n // 2 + 7) % 20
        images += [_image(10 * person + 5), _image(10 * (other if n % 2 else person) + 6)]
        same.append(n % 2 == 0)
    return images, same


def _written(path: Path, body: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(body, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "form",
    [
        lambda images, same: (images, same),
        lambda images, same: [tuple(images), [np.bool_(each) for each in same]],
        lambda images, same: (images, np.array(same)),
        lambda images, same: (images, [np.int64(each) for each in same]),
        lambda images, same: ([np.frombuffer(each, np.uint8) for each in images], same),
    ],
)
def test_every_form_and_protocol(
    tmp_path: Path, protocol: int, form: Callable[[list[bytes], list[bool]], Any]
) -> None:
    images, same = _pairs(6)
    path = _written(tmp_path / "lfw.bin", form(images, same), protocol)
    assert read_verification_file(path) == (images, same)


def test_a_file_of_python_2(tmp_path: Path) -> None:
    # As cPickle of Python 2 wrote (["ab", "cd"], [True]) by protocol 2.
    (tmp_path / "a.bin").write_bytes(
        b"\x80\x02]q\x01(U\x02abq\x02U\x02\xff\xd8q\x03e]q\x04\x88a\x86q\x05."
    )
    assert read_verification_file(tmp_path / "a.bin") == ([b"ab", b"\xff\xd8"], [True])


class _Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_called(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "called"
    for evil in (
        _Calls(os.system, f"touch {mark}"),
        _Calls(eval, f"open({str(mark)!r}, 'w')"),
        _Calls(getattr, {}, "clear"),
        _Calls(np.load, str(mark)),
        np.array([object], dtype=object),
        np.zeros(3, np.float32),
    ):
        path = _written(tmp_path / "evil.bin", ([b"a", evil], [True]), protocol)
        with pytest.raises(InputError, match=r"which is not loaded|not a verification file"):
            read_verification_file(path)
    assert not mark.exists()
    with pytest.raises(InputError, match=re.escape("holds the name 'posix.system', which is not")):
        read_verification_file(
            _written(tmp_path / "evil.bin", ([_Calls(os.system, "true")], [True]))
        )


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (([b"a", b"b"], [True, False]), "2 images for 2 pairs, and not two images a pair"),
        (([], []), "0 images for 0 pairs"),
        (([b"a", "b"], [True]), "an image that is of type str"),
        (([b"a", b"b"], ["yes"]), "a value of type str where booleans are"),
        ({"images": []}, "something other than two lists"),
        ((b"ab", [True]), "no list of images"),
    ],
)
def test_another_content_is_refused_in_one_line(tmp_path: Path, body: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_verification_file(_written(tmp_path / "a.bin", body))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(_pairs(4))[:-40], b"\x80\x04N."])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_data(tmp_path / "a.bin")
    assert "\n" not in str(caught.value)


def test_images_are_unpacked_once_and_for_their_owner(tmp_path: Path, home: Path) -> None:
    images, same = _pairs(43)
    path = _written(tmp_path / "agedb_30.bin", (images, same))
    data = read_data(path)
    assert data.pairs is not None
    assert (data.kind, data.is_aligned, data.has_subjects) == ("insightface_bin", True, False)
    assert len(data.images) == len(set(images)) == 40
    assert [data.images[pair.probe].path.read_bytes() for pair in data.pairs] == images[::2]
    assert [data.images[pair.reference].path.read_bytes() for pair in data.pairs] == images[1::2]
    assert [pair.mated for pair in data.pairs] == same
    # As KFold(10) without shuffling.
    assert [pair.fold for pair in data.pairs] == [
        f for f in range(1, 11) for _ in range(5 - (f > 3))
    ]
    # Shades 10 n + 5 and 10 n + 6 are of one person.
    assert len(data.subjects) == 20
    assert {each.stat().st_mode & 0o777 for each in home.rglob("*") if each.is_file()} == {0o600}
    before = {each: each.stat().st_mtime_ns for each in home.rglob("*")}
    assert read_data(path) == data
    assert {each: each.stat().st_mtime_ns for each in home.rglob("*")} == before
    with pytest.raises(InputError, match="contains its images: give no folder"):
        read_data(path, images=tmp_path)


def test_it_is_evaluated_as_the_runtime_does(tmp_path: Path) -> None:
    images, same = _pairs(60)
    images[2] = b"no image"
    report = evaluate(ShadeEmbedder(), _written(tmp_path / "cfp_fp.bin", (images, same)))
    (model,) = report.models
    assert (report.kind, report.image_count) == ("insightface_bin", 41)
    assert model.folds is not None
    assert (len(model.folds.accuracies), model.folds.failed_pairs) == (10, 1)
    assert model.folds.mean > 0.9
    assert [failure.reason for failure in model.failures] == ["unreadable"]
    assert any("name no subjects" in note for note in model.notes)


def test_a_model_that_crops_ink_takes_no_crops() -> None:
    encoder = Encoder.__new__(Encoder)
    encoder.spec = signature_spec()
    with pytest.raises(InputError, match="crops images itself"):
        ModelEmbedder(encoder, "signature", is_aligned=True)
