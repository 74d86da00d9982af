"""Create a film for a browser's fake camera from one image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 720, 960
_SWAYS_PX = (0, 1, 2, 3, 2, 1)  # small movements


def write_film(picture: Path | None, film: Path, *, share: float = 0.9) -> Path:
    """Write a short film, which the browser repeats.

    Args:
        picture: The image to show; None shows the background only.
        film: The ``.mjpeg`` file to write.
        share: Share of the film's height or width that the image fills, in (0, 1].

    Returns:
        ``film``.

    Raises:
        OSError: The image cannot be read.
    """
    light = np.linspace(1.1, 0.8, HEIGHT)[:, None, None]
    background = (np.array([150, 160, 165]) * light * np.ones((1, WIDTH, 1))).astype(np.uint8)
    person = None if picture is None else cv2.imread(str(picture), cv2.IMREAD_COLOR)
    if picture is not None and person is None:
        raise OSError(f"OpenCV cannot read the image {picture}")
    frames = []
    for sway_px in _SWAYS_PX:
        frame = background.copy()
        if person is not None:
            scale = share * min(HEIGHT / person.shape[0], WIDTH / person.shape[1])
            shown = cv2.resize(person, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            height, width = shown.shape[:2]
            left = (WIDTH - width) // 2 + sway_px
            frame[HEIGHT - height :, left : left + width] = shown
        _, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
        frames.append(encoded.tobytes())
    film.write_bytes(b"".join(frames))
    return film
