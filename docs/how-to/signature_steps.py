"""Draw the steps from a photograph to a crop: ``python docs/how-to/signature_steps.py``."""  # noqa: INP001

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
mpl.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402

from demo.drawn import Writer  # noqa: E402
from demo.photographed import photographed  # noqa: E402
from verifykit.modalities.signature.crop import crop_signature  # noqa: E402
from verifykit.modalities.signature.ink import against_paper, find_ink  # noqa: E402
from verifykit.spec import SignatureCrop  # noqa: E402


def main() -> None:
    """Write ``signature-steps.png`` next to this file."""
    spec = SignatureCrop(96, 288)
    photo = photographed(
        Writer(9).genuine(6),
        seed=2,
        ink=(25, 40, 150),
        tint=(250, 240, 215),
        gradient=0.5,
        shadow=0.4,
        noise=4.0,
        ruled_px=44,
        paper_edge=("right", "bottom"),
        rotation_deg=2.0,
        jpeg_quality=60,
    )
    darkness, _ = against_paper(photo, spec)
    ink = find_ink(photo, spec)
    if ink.box_px is None:
        raise SystemExit("no ink was found")
    left, top, right, bottom = ink.box_px
    boxed = cv2.cvtColor(255 - ink.darkness, cv2.COLOR_GRAY2RGB)
    cv2.rectangle(boxed, (left, top), (right, bottom), (200, 60, 40), 2)
    rows, columns = np.nonzero(ink.mask)
    centre = (round(float(columns.mean())), round(float(rows.mean())))
    cv2.drawMarker(boxed, centre, (200, 60, 40), cv2.MARKER_CROSS, 24, 2)
    steps = {
        "1  the photograph": photo,
        "2  darkness against the paper of each place": 255 - darkness,
        "3  ink alone, its box and its centroid": boxed,
        "4  the crop: 96 x 288 px, inverted": crop_signature(ink, spec),
    }
    figure, axes = plt.subplots(2, 2, figsize=(10, 5), facecolor="#f2f2f2")
    for axis, (title, image) in zip(axes.ravel(), steps.items(), strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(HERE / "signature-steps.png", dpi=90)


if __name__ == "__main__":
    main()
