"""Augmentation between ``crop`` and ``to_tensor``, by albumentations.

A preset is a list of transforms written as in a configuration's ``[[augmentation.transforms]]``, so that
``config.toml`` of a run states every one of them with its arguments.
"""

from __future__ import annotations

import difflib
import inspect
import os
import warnings
from collections.abc import Sequence
from typing import Any

from training.config import AugmentationConfig
from training.errors import ConfigError
from training.hand import change_hands
from verifykit.types import Image

# Its import asks a server for a newer version otherwise; training is offline.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations

__all__ = ["PRESETS", "Augmentation", "resolve_augmentation"]

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
    # Never mirrored, which would be another hand; the crop's ground is black.
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
    # Nothing that could change what a picture of any kind means.
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
    """Write a preset out, so that nothing hides behind its name.

    Args:
        config: The section ``[augmentation]``.

    Returns:
        Preset ``none`` and all transforms.
    """
    return AugmentationConfig(
        hand=config.hand,
        preset="none",
        transforms=[*PRESETS[config.preset], *config.transforms],
    )


class Augmentation:
    """Random changes of crops that keep their size; the same seed gives the same changes."""

    def __init__(self, config: AugmentationConfig) -> None:
        """Build the transforms.

        Args:
            config: The section ``[augmentation]``.

        Raises:
            ConfigError: A transform is unknown, or takes no such argument or value.
        """
        self._hand = config.hand
        transforms = resolve_augmentation(config).transforms
        self._transforms = [_transform(table) for table in transforms]
        self._composed = albumentations.Compose(self._transforms)

    def __call__(
        self, crops: Sequence[Image], seed: int, subjects: Sequence[int] = ()
    ) -> list[Image]:
        """Change a batch of crops.

        Args:
            crops: Each (H, W, 3) uint8 RGB.
            subjects: A number for each crop's subject, for changes of handwriting.
            seed: In [0, 2**32).

        Returns:
            As many, each of the size and type it had.

        Raises:
            ConfigError: A transform changes the size or type of a crop.
        """
        if self._hand is not None:
            crops = change_hands(crops, subjects, self._hand, seed)
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
            f"augmentation: no transform of albumentations is named {name!r}{_hint(str(name), known)}"
        )
    allowed = list(inspect.signature(known[name]).parameters)
    for key in arguments:
        if key not in allowed:
            raise ConfigError(f"augmentation: {name} takes no {key!r}{_hint(key, allowed)}")
    try:
        # albumentations warns where a value does not fit, and goes on with another.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return known[name](**arguments)
    except (ValueError, TypeError, UserWarning) as error:
        raise ConfigError(f"augmentation: {name}: {error}") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else ""
