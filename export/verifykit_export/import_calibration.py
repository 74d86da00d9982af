"""Measure the operating points of an imported encoder, and write it with them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from verifykit import modelfile
from verifykit._files import atomic_write
from verifykit.calibration import Calibration
from verifykit.cli.options import choices
from verifykit.datasets import Dataset
from verifykit.encoder import Encoder
from verifykit.errors import CalibrationError, InputError
from verifykit.evaluation import ModelEmbedder, calibrate, read_data
from verifykit.spec import ModelSpec
from verifykit_export.modelfile import write_model


@dataclass(frozen=True)
class CalibrationRequest:
    """How the operating points of an imported encoder are measured: as ``verifykit calibrate`` does.

    Attributes:
        data: Labelled images, or pairs.
        cohort: Number of subjects that make a cohort, which lowers the scores of look-alikes; 0 for none.
        population: Of whom the data are; every decision states it.
    """

    data: Dataset
    cohort: int = 0
    population: str | None = None


def calibration_request(
    data: Path | None,
    images: Path | None,
    *,
    requested: bool | None,
    by_default: bool,
    cohort: int,
    population: str | None,
) -> CalibrationRequest | None:
    """Return how to calibrate; None if it is not requested.

    Raises:
        InputError: It is requested without data, or options of a calibration are given without one.
    """
    is_requested = by_default and data is not None if requested is None else requested
    if not is_requested:
        given = {"--images": images, "--cohort": cohort, "--population": population}
        if superfluous := [name for name, value in given.items() if value]:
            raise InputError(
                f"{', '.join(superfluous)} is for a calibration: give --data, and without a preset "
                "--calibrate"
            )
        return None
    if data is None:
        raise InputError("--calibrate takes --data: labelled images to measure thresholds on")
    return CalibrationRequest(read_data(data, images=images), cohort, population)


def calibrated(
    target: Path,
    encoder: onnx.ModelProto,
    spec: ModelSpec,
    detector: onnx.ModelProto | None,
    request: CalibrationRequest,
) -> Calibration:
    """Calibrate a network and write the model file with its operating points.

    Nothing is written unless the data support a rate.
    """
    face, quality = choices(request.data.kind, None, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write_model(path, encoder, spec, detector)
        file = modelfile.read(path)
    embedder = ModelEmbedder(
        Encoder.open(file),
        spec.name,
        multi_face=face,
        quality=quality,
        is_aligned=request.data.is_aligned,
    )
    try:
        found = calibrate(
            embedder, request.data, cohort=request.cohort, population=request.population
        )
    except CalibrationError as error:
        raise CalibrationError(
            f"{error}; or give --no-calibrate for a model without thresholds"
        ) from error
    atomic_write(target, modelfile.with_spec(file, found.apply(spec)))
    return found
