"""Random changes of crops between ``crop`` and ``to_tensor``, by albumentations and of handwriting.

A preset is a list of transforms written as in a configuration's ``[[augmentation.transforms]]``, so that
``config.toml`` of a run states each with its arguments.

Handwriting: 190 writers are few, so all images of a subject in a batch, forgeries included, are changed in
one way (mirrored, slanted, stretched): a new subject, in which genuine and forged differ as before.
Each image is also changed a little by itself. Both are one mapping of pixels, which samples the crop once:
albumentations, which interpolates in every transform, took four times as long.
"""

from __future__ import annotations

import difflib
import inspect
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray

from verifykit.errors import shown
from verifykit.types import Image
from verifykit_training.config import AugmentationConfig, HandwritingConfig
from verifykit_training.errors import ConfigError, first_line

_SUBJECT_NODES, _IMAGE_NODES = (3, 7), (6, 16)


@dataclass(frozen=True)
class _Handwriting:
    """The change of all images of one subject."""

    matrix: NDArray[np.float64]
    warp: NDArray[np.float32]
    stroke_px: float


def change_handwriting(
    crops: Sequence[Image], subjects: Sequence[int], config: HandwritingConfig, seed: int
) -> list[Image]:
    """Change the writers of a batch into other writers."""
    random = np.random.default_rng(seed)
    hands: dict[int, _Handwriting] = {}
    changed = []
    for crop, subject in zip(crops, subjects, strict=True):
        if subject not in hands:
            hands[subject] = _another_handwriting(random, config, crop.shape[0])
        grey = _changed(crop[:, :, 0], hands[subject], random, config)
        changed.append(np.repeat(grey[:, :, None], 3, axis=2))
    return changed


def _another_handwriting(
    random: np.random.Generator, config: HandwritingConfig, height: int
) -> _Handwriting:
    mirror = np.ones(2)
    if random.random() < config.mirror:
        mirror = np.array(((-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0))[random.integers(3)])
    stretch = np.exp(random.uniform(-1.0, 1.0, 2) * np.log1p(config.subject_stretch))
    matrix = _rotation(random.uniform(-1.0, 1.0) * config.subject_rotate_deg)
    matrix = matrix @ _shear(random.uniform(-1.0, 1.0) * config.subject_shear)
    warp = random.standard_normal((*_SUBJECT_NODES, 2)) * config.subject_warp_share * height
    nodes = _resized(warp.astype(np.float32), *_IMAGE_NODES)
    return _Handwriting(
        matrix @ np.diag(mirror * stretch),
        nodes,
        random.uniform(-1.0, 1.0) * config.subject_stroke_px,
    )


def _changed(
    grey: NDArray[np.uint8],
    hand: _Handwriting,
    random: np.random.Generator,
    config: HandwritingConfig,
) -> NDArray[np.uint8]:
    height, width = grey.shape
    scale = np.exp(random.uniform(-1.0, 1.0, 3) * np.log1p([config.scale, 0.5 * config.scale, 0]))
    matrix = _rotation(random.uniform(-1.0, 1.0) * config.rotate_deg)
    matrix = matrix @ _shear(random.uniform(-1.0, 1.0) * config.shear) @ hand.matrix
    matrix = matrix * scale[0] @ np.diag((scale[1], 1.0 / scale[1]))
    matrix = matrix * _that_fits(grey, matrix)
    shift = random.uniform(-1.0, 1.0, 2) * config.shift_share * (width, height)
    warp = random.standard_normal((*_IMAGE_NODES, 2)) * config.warp_share * height
    places = _places(matrix, shift, hand.warp + warp.astype(np.float32), height, width)
    columns, rows = np.ascontiguousarray(places.transpose(2, 0, 1))
    moved = cv2.remap(grey, columns, rows, cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    own = random.uniform(-1.0, 1.0) * config.stroke_px if random.random() < 0.5 else 0.0
    return _thickened(moved, hand.stroke_px + own)


def _places(
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
    warp: NDArray[np.float32],
    height: int,
    width: int,
) -> NDArray[np.float32]:
    """(H, W, 2) float32: where in the crop each pixel of the result is looked up, (x, y)."""
    inverse = np.linalg.inv(matrix)
    places = _resized(warp, height, width)
    places[..., 0] += np.arange(width, dtype=np.float32) - (width - 1) / 2 - np.float32(shift[0])
    places[..., 1] += (np.arange(height, dtype=np.float32) - (height - 1) / 2)[
        :, None
    ] - np.float32(shift[1])
    found = places @ inverse.T.astype(np.float32)
    found += np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    return np.asarray(found, np.float32)


def _that_fits(grey: NDArray[np.uint8], matrix: NDArray[np.float64]) -> float:
    """The factor, at most 1, by which the mapped ink stays inside."""
    height, width = grey.shape
    rows, columns = np.nonzero(grey[::4, ::4])
    if not len(rows):
        return 1.0
    corners = np.stack([columns * 4 - width / 2, rows * 4 - height / 2])
    reach = np.abs(matrix @ corners).max(axis=1)
    return float(min(1.0, width / 2 / max(reach[0], 1.0), height / 2 / max(reach[1], 1.0)))


def _thickened(grey: NDArray[np.uint8], stroke_px: float) -> NDArray[np.uint8]:
    """Strokes wider by ``stroke_px`` on each side, or thinner; parts of a pixel by mixing."""
    amount = min(abs(stroke_px), 1.0)
    if amount < 0.05:
        return grey
    if stroke_px > 0:
        other = cv2.dilate(grey, np.ones((3, 3), np.uint8))
    else:
        other = cv2.erode(grey, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return cv2.addWeighted(grey, 1.0 - amount, other, amount, 0.0).astype(np.uint8, copy=False)


def _rotation(degrees: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _shear(slope: float) -> NDArray[np.float64]:
    return np.array([[1.0, slope], [0.0, 1.0]])


def _resized(nodes: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


PRESETS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    # Mirror images are the same person; detection is never off by more than a few pixels.
    "face": [
        {"transform": "HorizontalFlip", "p": 0.5},
        {
            "transform": "Affine",
            "rotate": [-8.0, 8.0],
            "scale": [0.92, 1.08],
            "translate_percent": [-0.04, 0.04],
            "p": 0.7,
        },
        {
            "transform": "ColorJitter",
            "brightness": [0.7, 1.3],
            "contrast": [0.7, 1.3],
            "saturation": [0.7, 1.3],
            "hue": [-0.02, 0.02],
            "p": 0.6,
        },
        {"transform": "ToGray", "p": 0.05},
        {"transform": "Downscale", "scale_range": [0.4, 0.9], "p": 0.1},
        {"transform": "GaussianBlur", "blur_limit": 0, "sigma_limit": [0.3, 1.2], "p": 0.1},
        {"transform": "ImageCompression", "quality_range": [40, 95], "p": 0.15},
        {
            "transform": "CoarseDropout",
            "num_holes_range": [1, 1],
            "hole_height_range": [0.1, 0.3],
            "hole_width_range": [0.1, 0.3],
            "p": 0.15,
        },
    ],
    # Never mirrored, which would be another handwriting; the crop's ground is black.
    "signature": [
        {
            "transform": "Affine",
            "rotate": [-10.0, 10.0],
            "scale": [0.9, 1.1],
            "shear": [-6.0, 6.0],
            "translate_percent": [-0.05, 0.05],
            "p": 0.9,
        },
        {"transform": "ElasticTransform", "alpha": 20.0, "sigma": 6.0, "p": 0.3},
        {"transform": "Morphological", "scale": [2, 3], "operation": "dilation", "p": 0.25},
        {"transform": "Morphological", "scale": [2, 2], "operation": "erosion", "p": 0.15},
        {"transform": "Downscale", "scale_range": [0.5, 0.9], "p": 0.2},
        {"transform": "GaussianBlur", "blur_limit": 0, "sigma_limit": [0.3, 1.0], "p": 0.2},
    ],
    # What pen and scanner do, for use after the changes of handwriting.
    "ink": [
        {"transform": "RandomGamma", "gamma_limit": [50, 170], "p": 0.4},
        {"transform": "GaussianBlur", "blur_limit": 0, "sigma_limit": [0.3, 1.0], "p": 0.2},
        {"transform": "Downscale", "scale_range": [0.5, 0.9], "p": 0.15},
        {
            "transform": "CoarseDropout",
            "num_holes_range": [1, 2],
            "hole_height_range": [0.1, 0.4],
            "hole_width_range": [0.04, 0.12],
            "p": 0.2,
        },
    ],
    # Nothing that could change what an image of any kind means.
    "plain": [
        {
            "transform": "Affine",
            "rotate": [-5.0, 5.0],
            "scale": [0.95, 1.05],
            "translate_percent": [-0.04, 0.04],
            "p": 0.7,
        },
        {
            "transform": "RandomBrightnessContrast",
            "brightness_limit": [-0.15, 0.15],
            "contrast_limit": [-0.15, 0.15],
            "p": 0.4,
        },
    ],
}


def resolve_augmentation(config: AugmentationConfig) -> AugmentationConfig:
    """Return the configuration with its preset written out as transforms."""
    return AugmentationConfig(
        hand=config.hand,
        preset="none",
        transforms=[*PRESETS[config.preset], *config.transforms],
    )


class Augmentation:
    """Random changes of crops that keep their size; the same seed gives the same changes."""

    def __init__(self, config: AugmentationConfig) -> None:
        """Build the transforms."""
        self._hand = config.hand
        transforms = resolve_augmentation(config).transforms
        self._transforms = [_transform(table) for table in transforms]
        self._composed = albumentations.Compose(self._transforms)

    def __call__(
        self, crops: Sequence[Image], seed: int, subjects: Sequence[int] = ()
    ) -> list[Image]:
        """Change a batch of crops."""
        if self._hand is not None:
            crops = change_handwriting(crops, subjects, self._hand, seed)
        if not self._transforms:
            return list(crops)
        # Once a batch: seeding costs more than the transforms of one crop.
        self._composed.set_random_seed(seed)
        changed = [self._composed(image=crop)["image"] for crop in crops]
        for before, after in zip(crops, changed, strict=True):
            if before.shape != after.shape or before.dtype != after.dtype:
                raise ConfigError(
                    f"augmentation: a transform made {after.dtype} of shape {after.shape} from a crop "
                    f"of shape {before.shape}; size and type must stay"
                )
        return changed


def _transform(table: dict[str, Any]) -> Any:
    arguments = {key: _tuples(value) for key, value in table.items() if key != "transform"}
    name = table.get("transform")
    known = {
        key: value
        for key, value in vars(albumentations).items()
        if inspect.isclass(value) and issubclass(value, albumentations.BasicTransform)
    }
    if name not in known:
        raise ConfigError(
            f"augmentation: no transform of albumentations is named {shown(name)}{_hint(str(name), known)}"
        )
    allowed = list(inspect.signature(known[name]).parameters)
    for key in arguments:
        if key not in allowed:
            raise ConfigError(f"augmentation: {name} takes no {shown(key)}{_hint(key, allowed)}")
    try:
        # albumentations warns where a value does not fit, and continues with another.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return known[name](**arguments)
    except (ValueError, TypeError, UserWarning) as error:
        raise ConfigError(f"augmentation: {name}: {first_line(error)}") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {shown(close[0])}?" if close else ""
