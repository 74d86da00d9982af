"""Weights of any origin arrive key by key, or the message says which do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tests.unit.training.drawing import draw_folder, small_config
from tests.unit.training.exported import assert_weights_come_back, varied
from verifykit.errors import ModelIntegrityError, ModelNotFoundError
from verifykit.spec import InputSpec
from verifykit_training.dataset import read_records
from verifykit_training.encoders import build_encoder, input_statistics
from verifykit_training.evaluation import load_encoder, records_of
from verifykit_training.loop import train
from verifykit_training.run_folder import RunFolder, TrainingJob


def equal(left: nn.Module, right: nn.Module) -> bool:
    mine, other = left.state_dict(), right.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[k], other[k]) for k in mine)


@pytest.fixture(scope="module")
def resnet() -> dict[str, Any]:
    torch.manual_seed(1)
    return torchvision.models.resnet18(weights=None).state_dict()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {"state_dict": state, "epoch": 7, "optimizer": {"lr": 0.1}},
        lambda state: {"model": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"model_state_dict": {f"_orig_mod.{k}": v for k, v in state.items()}},
        lambda state: {"state_dict": {f"model.net.{k}": v for k, v in state.items()}},
    ],
    ids=["module", "state_dict", "model and module", "compiled", "lightning"],
)
def test_a_wrapped_checkpoint_is_unwrapped(
    wrapped: Any, resnet: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(wrapped(resnet), tmp_path / "w.pth")
    encoder = build_encoder("resnet18", weights=str(tmp_path / "w.pth"))
    for key, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, resnet[key]), key
    report = encoder.loaded_weights
    assert report is not None
    assert [key for key, *_ in report.differing] == ["head.weight", "head.bias"]
    assert "of another shape, begun at random: head.weight (1000, 512) instead of (128, 512)" in (
        report.sentence
    )


def test_a_classifier_of_the_embeddings_size_is_the_head(
    resnet: dict[str, Any], tmp_path: Path
) -> None:
    own = torchvision.models.resnet18(weights=None, num_classes=128)
    torch.save(own.state_dict(), tmp_path / "w.pth")
    encoder = build_encoder("resnet18", weights=str(tmp_path / "w.pth"))
    assert torch.equal(encoder.head.weight, own.fc.weight)
    assert encoder.loaded_weights is not None
    assert not encoder.loaded_weights.missing
    assert len(encoder.loaded_weights.matched) == len(own.state_dict())


def test_what_a_loop_saved_besides_is_reported(resnet: dict[str, Any], tmp_path: Path) -> None:
    state = {f"model.{k}": v for k, v in resnet.items()} | {"loss.weight": torch.zeros(3, 4)}
    torch.save(state, tmp_path / "w.pth")
    report = build_encoder("resnet18", weights=str(tmp_path / "w.pth")).loaded_weights
    assert report is not None
    assert report.unexpected == ("loss.weight",)
    assert "not used: loss.weight" in report.sentence
    assert json.loads(report.to_json())["unexpected"] == ["loss.weight"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    value: float, resnet: dict[str, Any], tmp_path: Path
) -> None:
    state = resnet | {"layer1.0.conv1.weight": torch.full((64, 64, 3, 3), value)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelIntegrityError, match=r"infinity in 1 tensor\(s\): layer1\.0\.conv1"):
        build_encoder("resnet18", weights=str(tmp_path / "w.pth"))


def test_safetensors_are_known_by_their_content(resnet: dict[str, Any], tmp_path: Path) -> None:
    save_file(resnet, tmp_path / "w.bin")
    report = build_encoder("resnet18", weights=str(tmp_path / "w.bin")).loaded_weights
    assert report is not None
    assert len(report.matched) == len(resnet) - 2


def test_a_deeper_network_of_the_same_kind_is_refused(tmp_path: Path) -> None:
    deep = build_encoder("iresnet50", weights="none")
    state = deep.state_dict()
    # Every tensor of iresnet18 is there, and of its shape.
    assert set(build_encoder("iresnet18", weights="none").state_dict()) <= set(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelIntegrityError, match=r"unknown: backbone\.layer1\.2"):
        build_encoder("iresnet18", weights=str(tmp_path / "w.pth"))


def test_arcfaces_file_is_loaded_with_its_head(tmp_path: Path) -> None:
    torch.manual_seed(2)
    made = varied(build_encoder("iresnet18", weights="none", embedding_size=512))
    state = {key.split(".", 1)[1]: value for key, value in made.state_dict().items()}
    assert {"conv1.weight", "layer4.1.prelu.weight", "fc.weight", "features.weight"} <= set(state)
    torch.save(state, tmp_path / "backbone.pth")
    path = str(tmp_path / "backbone.pth")
    assert equal(build_encoder("iresnet18", weights=path, embedding_size=512), made)
    smaller = build_encoder("iresnet18", weights=path)
    assert equal(smaller.backbone, made.backbone)
    report = smaller.loaded_weights
    assert report is not None
    assert {key for key, *_ in report.differing} == {
        "head.fc.weight",
        "head.fc.bias",
        "head.features.weight",
        "head.features.bias",
        "head.features.running_mean",
        "head.features.running_var",
    }


def test_facenet_pytorchs_file_is_loaded_with_its_head(tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = varied(build_encoder("inception_resnet_v1", weights="none", embedding_size=512))
    state = {key.split(".", 1)[1]: value for key, value in made.state_dict().items()}
    state |= {"logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)}
    torch.save(state, tmp_path / "vggface2.pt")
    path = str(tmp_path / "vggface2.pt")
    loaded = build_encoder("inception_resnet_v1", weights=path, embedding_size=512)
    assert equal(loaded, made)
    assert loaded.loaded_weights is not None
    assert loaded.loaded_weights.unexpected == ("logits.weight", "logits.bias")


class Plain(nn.Module):
    """A module that torch.save pickles whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def test_a_file_that_would_run_code_is_refused_in_our_words(tmp_path: Path) -> None:
    torch.save(Plain(), tmp_path / "whole.pth")
    with pytest.raises(ModelIntegrityError) as caught:
        build_encoder("resnet18", weights=str(tmp_path / "whole.pth"))
    message = str(caught.value)
    assert "torch.save(model.state_dict(), FILE)" in message
    assert "weights_only" not in message
    assert "\n" not in message


def test_a_torchscript_archive_is_refused_in_our_words(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(ModelIntegrityError) as caught:
        build_encoder("resnet18", weights=str(tmp_path / "script.pt"))
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is not that of a run"):
        build_encoder("cnn5", weights=str(tmp_path))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warm")
    draw_folder(folder / "people", subjects=12, images=4)
    config = small_config(data={"validation_share": 0.5}, run={"epochs": 2, "steps_per_epoch": 4})
    train(TrainingJob(config, folder / "people", folder / "run", folder / "crops", quiet=True))
    return folder


@pytest.mark.parametrize("part", ["", "weights.safetensors", "checkpoints/last.pt"])
def test_a_run_begins_with_the_weights_of_another(part: str, finished: Path) -> None:
    source = finished / "run" / part
    encoder = build_encoder("cnn5", weights=str(source), embedding_size=16)
    if part != "checkpoints/last.pt":  # the last epoch's need not be the best
        assert equal(encoder, load_encoder(RunFolder(finished / "run"))[0])
    assert encoder.loaded_weights is not None
    assert not encoder.loaded_weights.missing
    assert not encoder.loaded_weights.unexpected


def test_who_the_first_run_was_trained_on_is_held_against_the_second(
    finished: Path, tmp_path: Path
) -> None:
    """Its data are other people; the first run's are left out of its rates all the same."""
    others = tmp_path / "others"
    draw_folder(others, subjects=20, images=4)
    for number in range(12):
        for image in (others / f"s{number:02}").iterdir():
            image.unlink()
        (others / f"s{number:02}").rmdir()
    config = small_config(
        encoder={"weights": str(finished / "run")},
        data={"validation_share": 0.25},
        run={"epochs": 1, "steps_per_epoch": 1},
    )
    second = tmp_path / "second"
    train(TrainingJob(config, others, second, finished / "crops", quiet=True))
    report = json.loads((second / "weights.json").read_text())
    assert report["matched"]
    assert not report["differing"]
    first = RunFolder(finished / "run").read_trained_on()
    trained = RunFolder(second).read_trained_on()
    assert first.images is not None
    assert trained.images is not None
    assert trained.images["before"] == first.images["train"]
    found = records_of(RunFolder(second), finished / "people", "held_out", finished / "crops")
    everybody = {record.subject for record in read_records(finished / "people")}
    assert {record.subject for record in found} == everybody - set(first.subjects["train"])


def test_a_resumed_run_needs_the_source_no_more(finished: Path, tmp_path: Path) -> None:
    build_encoder("cnn5", weights=str(finished / "run"), embedding_size=16)
    source = tmp_path / "w.pth"
    torch.save(load_encoder(RunFolder(finished / "run"))[0].state_dict(), source)
    config = small_config(encoder={"weights": str(source)}, run={"epochs": 2, "steps_per_epoch": 2})
    job = (config, finished / "people", tmp_path / "run", finished / "crops")
    train(TrainingJob(*job, quiet=True, stop_after=1))
    source.unlink()
    assert train(TrainingJob(*job, quiet=True, resume=True)).ended


class TestModelFile:
    """A model file that a run was exported to."""

    @pytest.mark.parametrize("name", ["cnn5", "efficientnet_lite0"])  # others: test_face_encoders
    def test_the_weights_come_back_from_the_folded_network(self, name: str) -> None:
        from verifykit_export.torch_export import to_onnx

        torch.manual_seed(4)
        network = varied(build_encoder(name, weights="none", embedding_size=16))
        spec = InputSpec(32, 32, "rgb", *input_statistics(name))
        assert_weights_come_back(name, network, to_onnx(network, spec, 16))

    def test_a_run_begins_with_an_exported_file(self, finished: Path, tmp_path: Path) -> None:
        from verifykit_export.export_run import ExportRequest, export_run

        for precision in ("fp32", "fp16"):
            request = ExportRequest(
                finished / "run",
                tmp_path / f"{precision}.onnx",
                finished / "people",
                precision=precision,  # type: ignore[arg-type]
                max_eer_rise=0.5,
                cache=finished / "crops",
            )
            export_run(request)
        trained = load_encoder(RunFolder(finished / "run"))[0].state_dict()
        for precision, tolerance in (("fp32", 1e-6), ("fp16", 1e-3)):
            path = str(tmp_path / f"{precision}.onnx")
            found = build_encoder("cnn5", weights=path, embedding_size=16)
            assert found.loaded_weights is not None
            assert ("rounded" in found.loaded_weights.sentence) is (precision == "fp16")
            for key, value in found.state_dict().items():
                torch.testing.assert_close(value, trained[key], atol=tolerance, rtol=tolerance)
        with pytest.raises(ModelIntegrityError, match=r"resnet18 .* do not fit"):
            build_encoder("resnet18", weights=str(tmp_path / "fp32.onnx"))

    def test_a_file_of_several_networks_is_refused(self) -> None:
        from verifykit import models

        with pytest.raises(ModelIntegrityError, match="give the folder of its run"):
            build_encoder("grid_resnet", weights=str(models.load("signature").path))
