"""Drawn people, so that tests of training need no data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from verifykit_training.config import Config, parse_config

SIZE_PX = 32


def drawn(subject: int, number: int, *, size_px: int = SIZE_PX) -> NDArray[np.uint8]:
    """A subject is two colours and an angle; ground, place, light and noise are of the picture."""
    who = np.random.default_rng([7, subject])
    now = np.random.default_rng([7, subject, number, 1])
    image = np.full((size_px, size_px, 3), now.integers(80, 170, 3), np.float32)
    angle = float(who.integers(0, 180))
    for axes in ((12, 7), (6, 4)):
        colour = tuple(float(v) for v in who.integers(0, 256, 3))
        centre = size_px // 2 + now.integers(-3, 4, 2)
        cv2.ellipse(image, (int(centre[0]), int(centre[1])), axes, angle, 0, 360, colour, -1)
    image = image * now.uniform(0.85, 1.15) + now.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def draw_folder(folder: Path, subjects: int = 8, images: int = 6) -> Path:
    """A folder for each subject, with PNG files in it."""
    for subject in range(subjects):
        (folder / f"s{subject:02}").mkdir(parents=True)
        for number in range(images):
            path = folder / f"s{subject:02}" / f"{number}.png"
            assert cv2.imwrite(str(path), drawn(subject, number)[..., ::-1])
    return folder


def small_config(**sections: Any) -> Config:
    """A run of seconds; sections are laid over it, key by key."""
    body: dict[str, Any] = {
        "name": "drawn",
        "modality": "plain",
        "licence": "Apache-2.0",
        "training_data": "drawn for tests",
        "crop": {"kind": "plain", "height_px": SIZE_PX, "width_px": SIZE_PX},
        "encoder": {"name": "cnn5", "weights": "none", "embedding_size": 16},
        "data": {"validation_share": 0.25, "workers": 0},
        "sampler": {"p": 3, "k": 3},
        "loss": {"name": "batch_all"},
        "optimiser": {"rate": 3e-3},
        "run": {"epochs": 2, "log_every_steps": 1, "accelerator": "cpu", "tensorboard": False},
    }
    for name, section in sections.items():
        body[name] = body.get(name, {}) | section if isinstance(section, dict) else section
    return parse_config(body)
