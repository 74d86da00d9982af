"""Place the ink of a signature on the network's canvas."""

from __future__ import annotations

import numpy as np

from verifykit.modalities.ops import warp
from verifykit.modalities.signature.ink import Ink
from verifykit.spec import SignatureCrop
from verifykit.types import Image


def crop_signature(ink: Ink, spec: SignatureCrop) -> Image:
    """Return the ink with its centroid in the middle of the canvas, as large as it fits.

    After Hafemann, Sabourin and Oliveira, "Learning features for offline handwritten signature
    verification using deep convolutional neural networks", Pattern Recognition 70, 2017, section 3.2
    (centred on the centre of mass, background removed, inverted); but the canvas has the ink's size and
    not a fixed number of pixels, since the resolution of a photograph is not known. The three channels are
    equal: 0 is paper, 255 full ink.
    """
    import cv2

    height, width = spec.height_px, spec.width_px
    if ink.box_px is None:
        return np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = ink.box_px
    moments = cv2.moments(ink.mask.astype(np.uint8), binaryImage=True)
    centre_x = moments["m10"] / moments["m00"] + 0.5
    centre_y = moments["m01"] / moments["m00"] + 0.5
    # The farther side limits the scale, so that nothing is cut off.
    half_width = max(centre_x - left, right - centre_x)
    half_height = max(centre_y - top, bottom - centre_y)
    rim = spec.margin_share * min(height, width)
    scale = min((width / 2 - rim) / half_width, (height / 2 - rim) / half_height)
    # Pixel centres are at whole numbers, edges half a pixel from them.
    matrix = np.array(
        [
            [scale, 0.0, width / 2 - 0.5 - scale * (centre_x - 0.5)],
            [0.0, scale, height / 2 - 0.5 - scale * (centre_y - 0.5)],
        ]
    )
    canvas = warp(ink.darkness, matrix, height, width)
    return np.repeat(canvas[:, :, None], 3, axis=2)
