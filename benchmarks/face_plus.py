"""Compare the one crop of ``face-plus`` with a crop for each of its two encoders, and its time with ``face``.

``python -m benchmarks.face_plus --data PATH`` embeds images of ``lfw_val`` and ``cfp``, without
people of ``lfw_train``, either way: from the crop that the model file states, and with SFace's own 112 px
crop and dlib's own 150 px crop, each taken from the image. It prints error rates of cosines without a cohort,
and the processor time of one embedding by either model, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_subjects
from benchmarks.populations import read_cfp
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.evaluation.embedding import middle
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.metrics import equal_error_rate, threshold_at_fmr
from verifykit.modalities import crop, golden_image
from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.models import load
from verifykit.session import Session
from verifykit.spec import FivePointCrop
from verifykit.types import Embeddings, Image
from verifykit_export.dlib_file import read_dlib
from verifykit_export.dlib_network import dlib_to_onnx
from verifykit_export.face import SFACE
from verifykit_export.face_plus import DLIB, DLIB_LEFT_PX, DLIB_TOP_PX
from verifykit_export.foreign import import_encoder

PEOPLE = 60
IMAGES_A_PERSON = 6
TIMED = 40


def chosen(images: Sequence[tuple[Path, str]], known: frozenset[str]) -> list[tuple[Path, str]]:
    """Return some images, spread over all, of the first people with several; known people are left out."""
    by_subject: dict[str, list[Path]] = {}
    for image, subject in images:
        if subject not in known:
            by_subject.setdefault(subject, []).append(image)
    several = [name for name, found in sorted(by_subject.items()) if len(found) > 1][:PEOPLE]
    return [
        (image, name)
        for name in several
        for image in by_subject[name][:: -(-len(by_subject[name]) // IMAGES_A_PERSON)]
    ]


class SeparateCrops:
    """Both encoders of ``face-plus``, each with a crop of its own."""

    def __init__(self, spec: FivePointCrop) -> None:
        """Take the crop of ``face-plus``, whose template dlib's crop is a window of."""
        points = tuple((x - DLIB_LEFT_PX, y - DLIB_TOP_PX) for x, y in spec.landmarks_px)
        self._crops = (
            FivePointCrop(112, 112, ARCFACE_112_PX, spec.detector),
            replace(spec, height_px=150, width_px=150, landmarks_px=points),
        )
        sface = import_encoder(onnx.load_model_from_string(SFACE.read()), "sface")
        networks = sface, dlib_to_onnx(read_dlib(DLIB.read()), "dlib")
        self._sessions = [
            Session(each.SerializeToString(), name="encoder", threads=2) for each in networks
        ]

    def embed(self, image: Image, landmarks_px: Sequence[tuple[float, float]]) -> Embeddings:
        """Return the embedding of one face, (256,)."""
        parts = []
        for spec, session in zip(self._crops, self._sessions, strict=True):
            view = crop(image, spec, landmarks_px=landmarks_px)
            tensor = np.stack([view, view[:, ::-1]]).transpose(0, 3, 1, 2).astype(np.float32)
            rows = session.run(np.ascontiguousarray(tensor))[0]
            row = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).sum(axis=0)
            parts.append(row / np.linalg.norm(row) * np.sqrt(0.5))
        return np.concatenate(parts).astype(np.float32)


def processor_ms(name: str) -> float:
    """Return the processor time of one embedding, of the crop alone, the median of several."""
    encoder = Encoder.open(load(name), providers="cpu", threads=1)
    golden = golden_image(encoder.spec.input.height_px, encoder.spec.input.width_px)
    times = []
    for _ in range(TIMED):
        start = time.process_time()
        encoder.encode([golden])
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.face_plus", description=__doc__)
    add_data_argument(parser)
    data = parser.parse_args().data
    encoder = Encoder.open(load("face-plus"), threads=2)
    spec = encoder.spec.crop
    assert isinstance(spec, FivePointCrop)  # noqa: S101 - as built
    separate = SeparateCrops(spec)
    known = frozenset(subject for _, subject in read_subjects(data, "lfw_train"))
    table = Table("set", "images", "crop", "EER", "FNMR at FMR 1e-3")
    for name, images in (
        ("LFW, other people", read_subjects(data, "lfw_val")),
        ("CFP", [(image.path, image.subject) for image in read_cfp(data)]),
    ):
        one, two, subjects = [], [], []
        for path, subject in track(chosen(images, known), description=name):
            image = load_image(path)
            try:
                samples = encoder.extractor.samples(image, SampleOptions("all", "warn"))
            except AcquisitionError:
                continue
            sample = middle(samples, *image.shape[:2])
            if sample.detection is None:
                continue
            one.append(encoder.encode([sample.crop])[0])
            two.append(separate.embed(image, sample.detection.landmarks_px))
            subjects.append(subject)
        for kind, rows in (("one", np.stack(one)), ("two", np.stack(two))):
            upper = np.triu_indices(len(rows), 1)
            scores = (rows @ rows.T)[upper]
            mated = (np.array(subjects)[:, None] == np.array(subjects))[upper]
            eer = equal_error_rate(scores[mated], scores[~mated])
            threshold = threshold_at_fmr(scores[~mated], 1e-3)
            fnmr = float((scores[mated] < threshold).mean())
            table.add_row(name, str(len(rows)), kind, f"{eer.eer:.2%}", f"{fnmr:.2%}")
    console = Console()
    console.print(table)
    for name in ("face", "face-plus"):
        console.print(f"{name}: {processor_ms(name):.1f} ms")


if __name__ == "__main__":
    main()
