"""A backbone, a head, and rows of unit length."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from verifykit.errors import InputError
from verifykit_training.encoders.weights import WeightsReport
from verifykit_training.large_batches import recomputed


class EmbeddingNetwork(nn.Module):
    """Images to rows of unit length.

    Args:
        backbone: Maps (N, C, H, W) to features (N, F).
        head: Maps features (N, F) to (N, D).

    Attributes:
        loaded_weights: What became of every tensor of ``encoder.weights``; None for a random start and
            ImageNet weights.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.backbone_frozen = False
        self.recomputes = False
        self.loaded_weights: WeightsReport | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of a batch.

        Args:
            images: (N, C, H, W) float32, scaled and shifted as ``input_statistics`` of the encoder says.

        Returns:
            (N, D), each row of length 1 by itself: what else is in the batch plays no part in ``eval``.
            float32 even under autocast, for the losses.
        """
        if self.recomputes and self.training and torch.is_grad_enabled():
            with recomputed(self.backbone):
                features = self.backbone(images)
        else:
            features = self.backbone(images)
        embeddings = self.head(features)
        return functional.normalize(embeddings.float(), dim=1)

    def train(self, mode: bool = True) -> EmbeddingNetwork:
        """As every module's, but a frozen backbone stays in ``eval``: its batch norms hold still too."""
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        return self


def parameter_groups(encoder: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of the backbone and of the head, for learning rates of their own.

    Args:
        encoder: From ``build_encoder``.

    Returns:
        ``{"backbone": [...], "head": [...]}``, frozen ones included, together all of them.

    Raises:
        InputError: Not an :class:`EmbeddingNetwork`.
    """
    network = _require_network(encoder)
    return {
        "backbone": list(network.backbone.parameters()),
        "head": list(network.head.parameters()),
    }


def set_backbone_frozen(encoder: nn.Module, frozen: bool) -> None:
    """Freeze or release the backbone: no gradients, and its batch norms keep their statistics.

    A schedule calls this at the start of each epoch: ``set_backbone_frozen(encoder, epoch < 2)``.

    Args:
        encoder: From ``build_encoder``.
        frozen: Whether only the head is to learn.

    Raises:
        InputError: Not an :class:`EmbeddingNetwork`.
    """
    network = _require_network(encoder)
    network.backbone_frozen = frozen
    network.backbone.requires_grad_(not frozen)
    network.train(network.training)


def _require_network(encoder: nn.Module) -> EmbeddingNetwork:
    if not isinstance(encoder, EmbeddingNetwork):
        raise InputError(
            f"an encoder made by build_encoder is required, got {type(encoder).__name__}; unwrap it first"
        )
    return encoder
