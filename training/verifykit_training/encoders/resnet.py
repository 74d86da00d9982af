"""ResNets of torchvision (He et al., CVPR 2016), ImageNet weights included."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from verifykit.errors import ModelNotFoundError
from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import Published, load_state
from verifykit_training.errors import first_line

PUBLISHED = Published(head=(("fc.", ""),))


def build_resnet(
    name: str, *, embedding_size: int, weights: str, input_channels: int
) -> EmbeddingNetwork:
    """``resnet18`` to ``resnet152``, the last layer replaced by one to the embedding.

    Args:
        name: torchvision's name.
        embedding_size: D.
        weights: ``"imagenet"`` or ``"none"``.
        input_channels: 3, or 1 for grey.

    Returns:
        The network; 224x224 px is what the ImageNet weights saw, any size from 32 px on works.

    Raises:
        ModelNotFoundError: The weights cannot be had; it says which file to put where.
        ModelIntegrityError: The keys or shapes of torchvision's file differ.
        InputError: A number of channels that pretrained weights cannot be made to fit.
    """
    # A residual branch that begins as zero: from a random start 152 layers otherwise blow up the first
    # gradients (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1).
    backbone = torchvision.models.get_model(name, weights=None, zero_init_residual=True)
    features = backbone.fc.in_features
    backbone.fc = nn.Identity()
    if input_channels != 3:
        backbone.conv1 = nn.Conv2d(input_channels, 64, 7, stride=2, padding=3, bias=False)
    network = EmbeddingNetwork(backbone, nn.Linear(features, embedding_size))
    if weights == "imagenet":
        state = {key: value for key, value in _imagenet(name).items() if not key.startswith("fc.")}
        load_state(network, state, PUBLISHED, source=weights, name=name)
    return network


def _imagenet(name: str) -> dict[str, Tensor]:
    # The first recipe's weights: all five sizes have them, and features trained without label
    # smoothing transfer better (Kornblith et al., NeurIPS 2021).
    entry = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    file = str(entry.url).rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        raise ModelNotFoundError(
            f"the ImageNet weights of {name} could not be had ({first_line(error)}). On a machine with a "
            f"network fetch {file} ({entry.url}), then put it at {folder / file}, or anywhere and set "
            f'weights = "PATH/{file}". For a random start write weights = "none".'
        ) from error
