"""Faces that a caller gives: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from verifykit import InputError
from verifykit._given_faces import (
    GivenFace,
    PlacedImage,
    faces_from_texts,
    given_faces,
    one_given_face,
    placed_each,
)
from verifykit.types import Detection

BOX = (10.0, 20.0, 30.0, 40.0)
LANDMARKS = ((38.0, 52.0), (74.0, 52.0), (56.0, 72.0), (42.0, 92.0), (71.0, 92.0))
AT_BOX, BY_LANDMARKS = GivenFace(BOX), GivenFace(None, LANDMARKS)
BOTH = GivenFace(BOX, LANDMARKS)


@pytest.mark.parametrize(
    ("faces", "expected"),
    [
        (BOX, [AT_BOX]),
        ([10, 20, 30, 40], [AT_BOX]),
        (np.array(BOX, np.float32), [AT_BOX]),
        (LANDMARKS, [BY_LANDMARKS]),
        (np.array(LANDMARKS), [BY_LANDMARKS]),
        (Detection(BOX, LANDMARKS, 0.9), [BOTH]),
        (Detection(BOX, (), 0.9), [AT_BOX]),
        ({"box_px": BOX}, [AT_BOX]),
        ({"landmarks_px": np.array(LANDMARKS), "box_px": None}, [BY_LANDMARKS]),
        ([BOX], [AT_BOX]),
        ([BOX] * 5, [AT_BOX] * 5),
        (np.array([BOX, BOX]), [AT_BOX, AT_BOX]),
        ([LANDMARKS, LANDMARKS], [BY_LANDMARKS, BY_LANDMARKS]),
        ([BOX, LANDMARKS, Detection(BOX, LANDMARKS, None)], [AT_BOX, BY_LANDMARKS, BOTH]),
    ],
)
def test_every_form_is_read(faces: Any, expected: list[GivenFace]) -> None:
    assert list(given_faces(faces)) == expected


@pytest.mark.parametrize(
    "faces",
    [
        (1, 2, 3),
        [],
        [[]],
        {},
        {"box_px": (1, 2)},
        {"box_px": BOX, "landmarks_px": LANDMARKS[:4]},
        "10,20,30,40",
        b"....",
        5,
        True,
        [True, True, True, True],
        [None],
        [BOX, None],
        [BOX, "x"],
        (0.0, 0.0, 0.0, 5.0),
        (0.0, 0.0, 5.0, -5.0),
        (0.0, 0.0, float("nan"), 5.0),
        (0.0, float("inf"), 5.0, 5.0),
        (-8e307, 0.0, 1.6e308, 5.0),
        [(1e200 * x, 1e200 * y) for x, y in LANDMARKS],
        ("1", "2", "3", "4"),
        [(1.0, 2.0)] * 5,
        LANDMARKS[:4],
        Detection((0, 0, 0, 0), (), 0.5),
    ],
)
def test_anything_else_is_an_input_error(faces: Any) -> None:
    with pytest.raises(InputError, match="faces"):
        given_faces(faces)


@pytest.mark.parametrize(
    "points",
    [
        [LANDMARKS[i] for i in (1, 0, 2, 4, 3)],
        [LANDMARKS[i] for i in (1, 0, 2, 3, 4)],
        [(x, -y) for x, y in LANDMARKS],
    ],
)
def test_landmarks_in_a_mirrored_order_are_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(InputError, match="mirror"):
        given_faces(points)


def test_landmarks_upside_down_are_a_face() -> None:
    points = tuple((-x, -y) for x, y in LANDMARKS)
    assert given_faces(points) == (GivenFace(None, points),)


def test_one_face_is_required_where_one_is_used() -> None:
    assert one_given_face([BOX]) == AT_BOX
    with pytest.raises(InputError, match="2 faces were given"):
        one_given_face([BOX, BOX])


def test_each_image_has_its_faces() -> None:
    first, second = placed_each(["a.jpg", "b.jpg"], [None, [BOX, LANDMARKS]])
    assert first == "a.jpg"
    assert isinstance(second, PlacedImage)
    assert second.faces == (AT_BOX, BY_LANDMARKS)
    assert placed_each(["a.jpg"], None) == ["a.jpg"]
    for wrong in ([None], BOX, 5):
        with pytest.raises(InputError, match="each of the 2 images"):
            placed_each(["a.jpg", "b.jpg"], wrong)  # type: ignore[arg-type]


def test_texts_are_faces() -> None:
    flat = ",".join(str(value) for point in LANDMARKS for value in point)
    texts = faces_from_texts(["10, 20,30,40", flat, "-"])
    assert texts is not None
    assert given_faces(texts[:2]) == (AT_BOX, BY_LANDMARKS)
    assert texts[2] is None
    assert faces_from_texts([]) is None
    assert faces_from_texts(None) is None
    for wrong in ("", "10,20,30", "10;20;30;40", "a,b,c,d", "10,20,30,nan", "1,2,0,4"):
        with pytest.raises(InputError):
            faces_from_texts([wrong])
