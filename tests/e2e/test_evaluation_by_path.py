"""`vk.evaluate` and `vk.calibrate` take a model and data as an application names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

import verifykit as vk
from tests.helpers.batch_files import write_model
from verifykit.evaluation import read_data, write_report

SUBJECTS, IMAGES, SIDE_PX = 8, 3, 8


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight subjects with three noisy images each."""
    rng = np.random.default_rng(0)
    for subject in range(SUBJECTS):
        folder = tmp_path / "people" / f"s{subject}"
        folder.mkdir(parents=True)
        base = rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3))
        for number in range(IMAGES):
            noisy = np.clip(base + rng.integers(-9, 10, base.shape), 0, 255).astype(np.uint8)
            PilImage.fromarray(noisy).save(folder / f"{number}.png")
    return tmp_path / "people"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx")


def test_evaluate_by_paths_equals_evaluate_by_objects(
    data: Path, model: Path, tmp_path: Path
) -> None:
    report = vk.evaluate(model, data)
    (result,) = report.models
    assert (report.image_count, report.subject_count) == (SUBJECTS * IMAGES, SUBJECTS)
    assert result.model == str(model)
    by_objects = vk.evaluate([vk.Verifier(model).encoder], read_data(data))
    assert by_objects.models[0].attacks == result.attacks
    write_report(report, tmp_path / "report")
    assert (tmp_path / "report" / "report.html").is_file()


def test_calibrate_by_paths_gives_thresholds_that_decide(data: Path, model: Path) -> None:
    calibration = vk.calibrate(model, data, counts=[1])
    assert isinstance(calibration, vk.Calibration)
    assert calibration.image_count == SUBJECTS * IMAGES
    verifier = vk.Verifier(model, calibration=calibration, fmr=0.1)
    assert verifier.compare(data / "s0" / "0.png", data / "s0" / "1.png").fmr == 0.1


def test_no_model_and_no_data_are_named(data: Path, model: Path) -> None:
    with pytest.raises(vk.InputError, match="no model to evaluate"):
        vk.evaluate([], data)
    with pytest.raises(vk.InputError, match="nowhere"):
        vk.evaluate(model, data / "nowhere")
    with pytest.raises(vk.ModelNotFoundError, match="nowhere"):
        vk.calibrate("nowhere", data)
