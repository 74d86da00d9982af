"""Faces that a caller gives in place of the detector's: read, checked, and attached to their image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import InputError, shown
from verifykit.image import LoadedImage
from verifykit.types import Detection, FaceLike, ImageLike

_FURTHEST = 1e12  # pixels: far outside of every image, and its square is no overflow
_ORDER = "right eye, left eye (the subject's), nose tip, right and left mouth corner"
_FORMS = (
    f"a face is a box (left, top, width, height), five landmarks (x, y) ({_ORDER}), or a Detection, in "
    "pixels of the upright image"
)


@dataclass(frozen=True)
class GivenFace:
    """A face at a given place; with landmarks it is aligned by them, else it is detected near the box.

    Attributes:
        box_px: (left, top, width, height), or None.
        landmarks_px: Five (x, y), or none.
    """

    box_px: tuple[float, float, float, float] | None = None
    landmarks_px: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class PlacedImage:
    """An image whose faces are given."""

    image: ImageLike | LoadedImage
    faces: tuple[GivenFace, ...]


AnyFaces: TypeAlias = FaceLike | Sequence[FaceLike]


def given_faces(faces: AnyFaces) -> tuple[GivenFace, ...]:
    """Return one face or several, at least one.

    Raises:
        InputError: Neither, a number that is not finite, an empty box, or landmarks in another order.
    """
    if (one := _one(faces)) is not None:
        return (one,)
    several = [_one(each) for each in faces] if isinstance(faces, (list, tuple, np.ndarray)) else []
    found = tuple(face for face in several if face is not None)
    if not found or len(found) < len(several):
        raise InputError(f"faces: {_FORMS}, or a list of these; got {shown(faces)}")
    return found


def one_given_face(face: AnyFaces) -> GivenFace:
    """Return the only face.

    Raises:
        InputError: As :func:`given_faces`, or there are several.
    """
    found = given_faces(face)
    if len(found) != 1:
        raise InputError(f"faces: {len(found)} faces were given for one image, and one is required")
    return found[0]


def placed(image: ImageLike, faces: AnyFaces | None) -> ImageLike | PlacedImage:
    """Return an image with its faces; the image itself for None.

    Raises:
        InputError: As :func:`given_faces`.
    """
    return image if faces is None else PlacedImage(image, given_faces(faces))


def unplaced(
    image: ImageLike | LoadedImage | PlacedImage,
) -> tuple[ImageLike | LoadedImage, tuple[GivenFace, ...]]:
    """Return an image without its faces, and these; none for an image itself."""
    return (image.image, image.faces) if isinstance(image, PlacedImage) else (image, ())


def placed_each(
    images: Sequence[ImageLike], faces: Sequence[AnyFaces | None] | None
) -> list[ImageLike | PlacedImage]:
    """Return the images, each with its faces, if there are any.

    Raises:
        InputError: As :func:`given_faces`, or not one entry for each image.
    """
    if faces is None:
        return list(images)
    if not isinstance(faces, (list, tuple)) or len(faces) != len(images):
        raise InputError(
            f"faces: an entry for each of the {len(images)} images is required, None where the detector "
            f"finds the face; got {shown(faces)}"
        )
    return [placed(image, each) for image, each in zip(images, faces, strict=True)]


def faces_from_texts(texts: Sequence[str] | None) -> list[Any] | None:
    """Return the faces of texts, as ``faces=`` takes them; None without any.

    Each is four numbers of a box or ten of landmarks, separated by commas, or ``-`` for None.

    Raises:
        InputError: It is something else.
    """
    if not texts:
        return None
    return [None if text == "-" else vars(_of_text(text)) for text in texts]


def _of_text(text: str) -> GivenFace:
    try:
        numbers = np.array([float(part) for part in text.split(",")])
    except ValueError:
        numbers = np.empty(0)
    face = _of_numbers(numbers.reshape(5, 2) if len(numbers) == 10 else numbers)
    if face is None:
        raise InputError(
            f"a face is LEFT,TOP,WIDTH,HEIGHT, or the X,Y of five landmarks ({_ORDER}): 4 or 10 numbers with "
            f"commas, got {shown(text)}"
        )
    return face


def _one(face: object) -> GivenFace | None:
    """Return a face of any form; None for anything else."""
    if isinstance(face, Detection):
        face = vars(face)
    if not isinstance(face, Mapping):
        return _of_numbers(face)
    parts = {name: face.get(name) for name in ("box_px", "landmarks_px")}
    given = {name: part for name, part in parts.items() if part is not None and np.size(part)}
    read = {name: _of_numbers(part) for name, part in given.items()}
    if not read or not all(read[name] and getattr(read[name], name) for name in read):
        return None
    return GivenFace(**{name: getattr(part, name) for name, part in read.items()})


def _of_numbers(face: object) -> GivenFace | None:
    try:
        numbers = np.asarray(face)
    except ValueError:  # entries of several lengths
        return None
    if numbers.dtype.kind not in "iuf" or numbers.shape not in ((4,), (5, 2)):
        return None
    numbers = numbers.astype(np.float64)
    if not (np.abs(numbers) <= _FURTHEST).all():
        raise InputError(
            f"faces: every number must be finite, at most {_FURTHEST:g}, got {shown(numbers.tolist())}"
        )
    if numbers.shape == (4,):
        return _box(*numbers.tolist())
    return _landmarks(numbers)


def _box(left: float, top: float, width: float, height: float) -> GivenFace:
    if not (width >= 1 and height >= 1):
        raise InputError(
            f"faces: the box (left, top, width, height) = {(left, top, width, height)} is less than a pixel "
            "wide or high: give its width and height, not its right and bottom edge"
        )
    return GivenFace((left, top, width, height))


def _landmarks(points: NDArray[np.float64]) -> GivenFace:
    right_eye, left_eye, _, right_mouth, left_mouth = points
    across = left_eye - right_eye
    down = (right_mouth + left_mouth - right_eye - left_eye) / 2
    if not across[0] * down[1] - across[1] * down[0] >= 1:
        raise InputError(
            f"faces: the landmarks {shown(points.tolist())} are not those of a face of a pixel or more, "
            f"which are: {_ORDER}, and not as in a mirror"
        )
    return GivenFace(None, tuple((float(x), float(y)) for x, y in points))
