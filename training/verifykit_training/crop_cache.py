"""Cache crops on disk, so that a face is detected once and not in each epoch.

A crop is made by :class:`verifykit.extraction.SampleExtractor`, the runtime's own preprocessing. One
uncompressed file per image, named by the crop's specification and the image file's path, size and
modification time; a changed image is cropped again, and processes may fill one cache at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import verifykit
from verifykit.errors import InputError, shortened, shown
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.modalities.face.detector import FaceDetector
from verifykit.models import load
from verifykit.spec import CropSpec, FivePointCrop, PlainCrop
from verifykit.spec.strict_json import canonical, plain
from verifykit.types import Image
from verifykit_training.config import CropConfig
from verifykit_training.dataset import Record, name_bytes
from verifykit_training.errors import DataError
from verifykit_training.parallel import in_threads
from verifykit_training.pixel_digests import PixelDigests, file_key, write_cached
from verifykit_training.stages import Stages, stage

_TEMPLATE_PX = 112


def build_extractor(config: CropConfig) -> SampleExtractor:
    """Build the extractor of the configured crop."""
    if config.kind == "plain":
        return SampleExtractor(PlainCrop(config.height_px, config.width_px, config.fit))
    if config.kind != FivePointCrop.kind:
        return SampleExtractor(CropSpec.kinds[config.kind](config.height_px, config.width_px))
    model = load(config.detector)
    detector_spec = model.spec.crop.detector_spec
    if model.detector is None or detector_spec is None:
        raise DataError(f"crop.detector: the model {shown(config.detector)} has no face detector")
    landmarks_px = tuple(
        (x * config.width_px / _TEMPLATE_PX, y * config.height_px / _TEMPLATE_PX)
        for x, y in ARCFACE_112_PX
    )
    spec = FivePointCrop(config.height_px, config.width_px, landmarks_px, detector_spec)
    return SampleExtractor(spec, FaceDetector(model.detector, spec.detector, threads=1))


class CropCache:
    """Crops of one specification in a folder.

    Attributes:
        folder: Where they are stored.
        spec: Their geometry.
        digests: Digests of the images that they are crops of.
    """

    def __init__(self, root: Path, spec: CropSpec) -> None:
        """Open or begin a cache."""
        self.spec = spec
        # Another version of verifykit may crop otherwise.
        identity = canonical({"crop": plain(spec), "verifykit": verifykit.__version__})
        self.digests = PixelDigests(root)
        self.folder = root / hashlib.sha256(identity).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def crop(self, image: Path) -> Image:
        """Return a crop that :meth:`fill` has made, (H, W, 3) uint8 RGB."""
        path = self._path(image)
        if path is None or not path.exists():
            raise DataError(
                f"{shortened(image)} is not in the crop cache: it changed since, or was refused"
            )
        return np.fromfile(path, np.uint8).reshape(self.spec.height_px, self.spec.width_px, 3)

    def fill(
        self,
        records: Sequence[Record],
        extractor: Callable[[], SampleExtractor],
        *,
        workers: int = 2,
        stages: Stages | None = None,
    ) -> dict[Path, str]:
        """Crop every image that is not in the cache; return the refused ones, each with its reason."""
        refused, missing = {}, []
        for record in records:
            path = self._path(record.path)
            if path is None:
                refused[record.path] = "the file is missing"
            elif path.with_suffix(".refused").exists():
                refused[record.path] = path.with_suffix(".refused").read_text(encoding="utf-8")
            elif not path.exists():
                missing.append(record.path)
        if not missing:
            return refused
        cropper = extractor()
        made = in_threads(
            lambda image: self._make(image, cropper),
            missing,
            workers=workers,
            progress=stage(stages, "cropping", len(missing)),
        )
        return refused | {image: reason for image, reason in made if reason}

    def _path(self, image: Path) -> Path | None:
        name = file_key(image)
        return None if name is None else self.folder / name[:2] / f"{name[2:]}.rgb"

    def _make(self, image: Path, extractor: SampleExtractor) -> str:
        path = self._path(image)
        if path is None:
            return "the file is missing"
        try:
            loaded = extractor.load(image)
            key = file_key(image)
            if key and loaded.reduction == 1:
                self.digests.note(key, loaded.pixels)  # decoded once for both
            samples = extractor.samples(loaded, SampleOptions("largest", "warn"))
        except InputError as error:
            write_cached(path.with_suffix(".refused"), name_bytes(str(error)))
            return str(error)
        write_cached(path, samples[0].crop.tobytes())
        return ""
