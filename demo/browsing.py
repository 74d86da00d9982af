"""A Chromium that takes the place of a person: a fake camera, and a pen that signs with the mouse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator

CHROMIUM = Path("/usr/bin/chromium")  # Debian's
_STROKES, _STEPS = 3, 30


def chromium_flags(film: Path | None) -> list[str]:
    """What Chromium is started with: fake cameras, and nothing that asks the internet.

    Args:
        film: What the one camera shows. Chromium opens the file whenever a camera is started, so that a
            link to another film in its place changes what stands before the camera. None: two cameras
            that show a test picture.
    """
    fake = "--use-fake-device-for-media-stream"
    return [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        *(
            [fake, f"--use-file-for-fake-video-capture={film}"]
            if film
            else [f"{fake}=device-count=2"]
        ),
    ]


def sign(paper: Locator, hand: float = 0.0) -> None:
    """Write three strokes on a canvas.

    Args:
        paper: The canvas, in sight.
        hand: Another number is another writing; a small difference is the same hand another time.
    """
    box = paper.bounding_box()
    if box is None:
        raise ValueError("there is no paper in sight")
    mouse = paper.page.mouse
    for stroke in range(_STROKES):
        for step in range(_STEPS):
            t = step / (_STEPS - 1)
            across = 0.12 + 0.26 * stroke + 0.24 * t + 0.03 * math.sin(14 * t + hand)
            down = 0.5 + 0.25 * math.sin((12 + 5 * hand) * t + stroke) * (1 - 0.4 * t)
            mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] * down)
            if step == 0:
                mouse.down()
        mouse.up()
