from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning_fabric", reason="needs the extra train")
pytest.importorskip("onnxscript", reason="needs the extra export")

import torch

from benchmarks.untrained import write_untrained
from tests.unit.training.drawing import small_config
from verifykit.encoder import Encoder
from verifykit.errors import CalibrationError
from verifykit.modalities import golden_image, to_tensor
from verifykit_training.crop_cache import build_extractor
from verifykit_training.learner import encoder_of, input_of
from verifykit_training.run_folder import EncoderRecord, RunFolder


@pytest.mark.usefixtures("one_thread")
def test_the_network_before_the_first_step_is_exported(tmp_path: Path) -> None:
    config = small_config(
        modality="signature",
        seed=3,
        crop={"kind": "signature", "height_px": 32, "width_px": 64},
        encoder={"color": "grey"},
    )
    run = RunFolder(tmp_path / "run")
    run.create()
    run.write_text("config.toml", config.to_toml())
    crop = build_extractor(config.crop).spec
    run.write_record(
        EncoderRecord(
            name="drawn",
            modality="signature",
            licence="Apache-2.0",
            training_data="drawn",
            embedding_size=16,
            encoder="cnn5",
            options={},
            input=input_of(config),
            crop=crop,
            detector_model=None,
            trained_images=1,
            trained_subjects=1,
            epoch=1,
            metric="eer",
            validation=None,
        )
    )
    spec = write_untrained(run.path, tmp_path / "untrained.onnx")
    encoder = Encoder.open(tmp_path / "untrained.onnx", threads=1)
    assert encoder.spec == spec
    assert (spec.crop, spec.fusion, spec.operating_points) == (crop, "mean", ())
    with pytest.raises(CalibrationError):
        spec.operating_point(0.1)
    torch.manual_seed(3)
    network = encoder_of(config).eval()
    image = golden_image(32, 64)
    with torch.no_grad():
        expected = network(torch.from_numpy(to_tensor([image], spec.input))).numpy()
    assert np.allclose(encoder.encode([image]), expected, atol=1e-5)
    again = write_untrained(run.path, tmp_path / "random.onnx", random=True)
    assert again.weights_sha256 == spec.weights_sha256
