"""From drawn writers to a model of signatures: trained, laid side by side, exported, decided with."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import verifykit as vk
from demo.drawn_set import draw_set

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import csv

import torch

from verifykit_export.errors import ExportError
from verifykit_export.export_run import ExportRequest, export_run
from verifykit_export.torch_export import compose
from verifykit_training.config import Config
from verifykit_training.loop import train
from verifykit_training.run_folder import TrainingJob


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _config(**sections: object) -> Config:
    base: dict[str, object] = {
        "name": "drawn",
        "modality": "signature",
        "licence": "Apache-2.0",
        "training_data": "drawn writers",
        "crop": {"kind": "signature", "height_px": 32, "width_px": 96},
        "encoder": {
            "name": "grid_resnet",
            "weights": "none",
            "color": "grey",
            "embedding_size": 16,
            "stem": 8,
            "widths": [8, 16, 16, 32],
            "blocks": [1, 1, 1, 1],
            "grid": [1, 3],
        },
        "data": {"validation_share": 0.5, "workers": 0},
        "sampler": {"p": 3, "k": 3, "forgeries": 2, "even": True},
        "augmentation": {"preset": "ink", "hand": {}},
        "loss": {"name": "decision"},
        "validation": {"metric": "skilled_eer", "every_epochs": 2},
        "run": {"epochs": 2, "steps_per_epoch": 5, "tensorboard": False},
    }
    return Config.model_validate({**base, **sections})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``writers/`` drawn; ``wide/`` and ``narrow/`` trained on half of them, ``plain/`` without mirrors."""
    workspace = tmp_path_factory.mktemp("signatures")
    (workspace / "writers").mkdir()
    rows = draw_set(workspace / "writers", 10)
    with (workspace / "writers" / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "subject", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    narrow = {**_config().encoder.model_dump(), "embedding_size": 8, "widths": [8, 8, 16, 16]}
    still = {"preset": "none", "hand": {"mirror": 0.0}}
    few = {"epochs": 1, "steps_per_epoch": 2, "tensorboard": False}
    configs = {
        "wide": _config(),
        "narrow": _config(encoder=narrow, run=few),
        "plain": _config(augmentation=still, run=few),
        "others": _config(seed=1, run=few),
    }
    for name, config in configs.items():
        data = workspace / "writers" / "manifest.csv"
        train(TrainingJob(config, data, workspace / name, workspace / "crops", quiet=True))
    return workspace


def test_runs_side_by_side_become_one_model_that_decides(workspace: Path, tmp_path: Path) -> None:
    done = export_run(
        ExportRequest(
            run=workspace / "wide",
            beside=(workspace / "narrow",),
            mirrored=True,
            fusion="spread",
            target=tmp_path / "drawn.onnx",
            data=workspace / "writers" / "manifest.csv",
            cache=workspace / "crops",
        )
    )
    assert done.spec.embedding_size == 4 * (16 + 8)
    assert done.spec.fusion == "spread"
    assert "and training run drawn" in done.spec.provenance.source
    assert done.spec.provenance.source.endswith("mirror images too")
    assert {p.attack for p in done.spec.operating_points} == {"random_forgery", "skilled_forgery"}
    assert max(p.reference_count for p in done.spec.operating_points) > 3

    verifier = vk.Verifier(tmp_path / "drawn.onnx")
    writer = workspace / "writers" / "drawn" / "000"
    verifier.enroll("ada", [writer / f"g0{i}.png" for i in range(4)])
    decision = verifier.verify("ada", writer / "g05.png", threshold=0.5)
    rows = [verifier.extract(writer / f"g0{i}.png").embedding for i in range(4)]
    mean = np.mean(rows, axis=0, dtype=np.float64)
    probe = verifier.extract(writer / "g05.png").embedding
    assert decision.score == pytest.approx(min(1.0, probe @ mean / (mean @ mean)), abs=1e-5)
    # Its four parts are the network's rows for the mirror images, the row of all of them a quarter each.
    assert np.allclose(np.linalg.norm(probe.reshape(4, -1), axis=1), 0.5, atol=1e-5)


def test_what_does_not_go_together_is_refused(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="was not trained on mirrored subjects"):
        compose(workspace / "plain", mirrored=True)
    with pytest.raises(ExportError, match=r"trained on .* subject"):
        compose(workspace / "wide", [workspace / "others"])
    other = tmp_path / "other"
    shutil.copytree(workspace / "narrow", other)
    spec = (other / "spec.json").read_text()
    assert '"margin_share": 0.04' in spec or '"margin_share":0.04' in spec
    (other / "spec.json").write_text(
        spec.replace('"margin_share": 0.04', '"margin_share": 0.05').replace(
            '"margin_share":0.04', '"margin_share":0.05'
        )
    )
    with pytest.raises(ExportError, match=r"cannot be combined with .* crop"):
        compose(workspace / "wide", [other])
