"""Encoders by name: networks that map images to rows of unit length.

To add one, write a function with the signature of :func:`build_cnn5` and give it a line in ``_ENCODERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from verifykit.errors import InputError, shown
from verifykit_training.encoders import (
    efficientnet_lite,
    inception_resnet,
    iresnet,
    resnet,
)
from verifykit_training.encoders.cnn5 import build_cnn5
from verifykit_training.encoders.combined import VIEWS, JoinedEncoders, MirroredViews
from verifykit_training.encoders.efficientnet_lite import build_efficientnet_lite0
from verifykit_training.encoders.grid_resnet import build_grid_resnet
from verifykit_training.encoders.inception_resnet import build_inception_resnet_v1
from verifykit_training.encoders.iresnet import BLOCKS, build_iresnet
from verifykit_training.encoders.mobilefacenet import build_mobilefacenet
from verifykit_training.encoders.network import (
    EmbeddingNetwork,
    parameter_groups,
    set_backbone_frozen,
)
from verifykit_training.encoders.own_module import (
    GIVEN,
    OWN,
    build_own,
    find_own,
    is_own,
    own_options,
    own_statistics,
)
from verifykit_training.encoders.resnet import build_resnet
from verifykit_training.encoders.signet import build_signet
from verifykit_training.encoders.weights import Published, WeightsReport, load_file_into
from verifykit_training.options import check_options, hint, option_types

__all__ = [
    "ENCODERS",
    "VIEWS",
    "EmbeddingNetwork",
    "JoinedEncoders",
    "MirroredViews",
    "WeightsReport",
    "build_encoder",
    "encoder_options",
    "input_statistics",
    "parameter_groups",
    "set_backbone_frozen",
]


@dataclass(frozen=True)
class _Entry:
    build: Callable[..., EmbeddingNetwork]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    published: Published = field(default_factory=Published)


# What torchvision's ImageNet weights were trained with (the transforms of their entries say so).
_TORCHVISION = (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# MEAN_RGB and STDDEV_RGB of the TensorFlow authors' efficientnet_lite_builder.py. The README of the
# package that carries the weights shows torchvision's values instead, left over from another network; the
# statistics inside the first batch norm agree with these and not with those (a test shows it).
_LITE = (1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
# A signature's crop is mostly 0, and stays so.
_UNIT = (1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# facenet-pytorch's fixed_image_standardization.
_FACENET = (1.0, (127.5, 127.5, 127.5), (128.0, 128.0, 128.0))
_CENTRED = (1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_ENCODERS = {
    "cnn5": _Entry(build_cnn5, *_CENTRED),
    "efficientnet_lite0": _Entry(build_efficientnet_lite0, *_LITE, efficientnet_lite.PUBLISHED),
    "grid_resnet": _Entry(build_grid_resnet, *_UNIT),
    "mobilefacenet": _Entry(build_mobilefacenet, *_CENTRED),
    "inception_resnet_v1": _Entry(build_inception_resnet_v1, *_FACENET, inception_resnet.PUBLISHED),
    "signet": _Entry(build_signet, *_UNIT),
    **{name: _Entry(build_iresnet, *_CENTRED, iresnet.PUBLISHED) for name in BLOCKS},
    **{
        f"resnet{depth}": _Entry(build_resnet, *_TORCHVISION, resnet.PUBLISHED)
        for depth in (18, 34, 50, 101, 152)
    },
}

ENCODERS = tuple(_ENCODERS)


def build_encoder(
    name: str,
    *,
    embedding_size: int = 128,
    weights: str = "imagenet",
    input_channels: int = 3,
    **options: Any,
) -> EmbeddingNetwork:
    """An encoder by its name.

    Args:
        name: One of :data:`ENCODERS`, or the import path of a function that makes one, as
            ``my.package:make``.
        embedding_size: D, length of an embedding.
        weights: ``"imagenet"``; the path of a run's folder, of a verifykit model (``.onnx``) that a run
            was exported to, or of a ``.pth``, ``.pt`` or ``.safetensors`` file with our names or the
            publisher's, also inside a checkpoint and after a prefix such as ``module.``; or ``"none"``, a
            random start, which must be written out. The backbone is loaded whole; a head of another
            size is dropped. ``loaded_weights`` of the result says what became of every tensor.
        input_channels: 3, or 1 for grey; encoders without pretrained weights take any number.
        **options: The encoder's own: ``tanh`` of ``cnn5``, ``dropout`` and ``batch_norm_momentum`` of
            ``efficientnet_lite0``, ``dropout`` of the ``iresnet``.

    Returns:
        A module from (N, C, H, W) float32, prepared as :func:`input_statistics` says, to (N, D) float32
        rows of unit length.

    Raises:
        InputError: No such encoder or option, an option of another type, or sizes that are not positive.
        ModelNotFoundError: The weights cannot be had; it says which file to put where.
        ModelIntegrityError: The weights do not fit; it says which keys or shapes differ.
    """
    entry = _entry(name)
    build = entry.build
    check_options(f"encoder {shown(name)}", options, encoder_options(name))
    if embedding_size < 1 or input_channels < 1:
        raise InputError(
            f"embedding_size and input_channels must be positive, got {embedding_size} and "
            f"{input_channels}"
        )
    is_file = weights not in ("imagenet", "none")
    network = build(
        name,
        embedding_size=embedding_size,
        weights="none" if is_file else weights,
        input_channels=input_channels,
        **options,
    )
    if is_file:
        network.loaded_weights = load_file_into(network, weights, entry.published, name)
    return network


def encoder_options(name: str) -> dict[str, Any]:
    """Return the options of an encoder by name, each with its type.

    Args:
        name: One of :data:`ENCODERS`.

    Returns:
        Name to type annotation.

    Raises:
        InputError: No such encoder.
    """
    return own_options(name) if is_own(name) else option_types(_entry(name).build, GIVEN)


def input_statistics(
    name: str, input_channels: int = 3
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """What the encoder's weights expect of its input: ``(pixel * scale - mean) / std``, pixels 0..255.

    Args:
        name: One of :data:`ENCODERS`.
        input_channels: 3 for RGB, 1 for grey, whose mean and deviation are those of the three averaged.

    Returns:
        ``scale``, ``mean`` and ``std``, one value a channel: the fields of the model's ``InputSpec``.

    Raises:
        InputError: No such encoder, or neither 3 nor 1 channels.
    """
    entry = _entry(name)
    if input_channels == 3:
        return entry.scale, entry.mean, entry.std
    if input_channels == 1:
        return entry.scale, (sum(entry.mean) / 3,), (sum(entry.std) / 3,)
    raise InputError(f"images have 3 channels (RGB) or 1 (grey), got {input_channels}")


def _entry(name: str) -> _Entry:
    if is_own(name):
        find_own(name)
        return _Entry(build_own, *own_statistics(name), OWN)
    if name not in _ENCODERS:
        raise InputError(f"there is no encoder {shown(name)}; {hint(name, ENCODERS)}")
    return _ENCODERS[name]
