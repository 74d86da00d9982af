"""Encoder, losses, optimiser and moving average of a run, and their state in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricOptimizer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from verifykit.spec import InputSpec
from verifykit_training.batches import Batch
from verifykit_training.config import Config
from verifykit_training.cross_batch_memory import CrossBatchMemory
from verifykit_training.encoders import (
    EmbeddingNetwork,
    WeightsReport,
    build_encoder,
    input_statistics,
    parameter_groups,
    set_backbone_frozen,
)
from verifykit_training.large_batches import require_blocks
from verifykit_training.losses import LossOutput, build_loss
from verifykit_training.losses.distillation import Distillation
from verifykit_training.quantisation import FakeQuantisation, hold_norms

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


def build_average(module: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average that begins at a module's weights.

    Buffers are averaged too: averaged weights with the last batch's normalisation are neither network.

    At update n the decay is ``min(decay, (1 + n) / (10 + n))``, as in TensorFlow's
    ``ExponentialMovingAverage(num_updates=n)``, so that a short run is not an average of its start.
    """

    @torch.no_grad()
    def mix(averaged: _Tensors, current: _Tensors, updates: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            now = min(decay, (1 + int(updates)) / (10 + int(updates)))
            torch._foreach_lerp_(averaged, current, 1.0 - now)
        else:
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)

    return AveragedModel(module, multi_avg_fn=mix, use_buffers=True).eval()


class Gathered(NamedTuple):
    """A global batch: the rows of all processes, in order.

    Attributes:
        embeddings: (N, D) float32; gradients flow back to the process that each row came from.
        labels: (N,) int64.
        forgeries: (N,) bool.
        rows: (N,) int64, places in the training set.
    """

    embeddings: Tensor
    labels: Tensor
    forgeries: Tensor
    rows: Tensor


class Learner:
    """Encoder, losses, optimiser and average of a run.

    Attributes:
        encoder: The bare network.
        optimiser: Groups carry ``peak``, the rate that the schedule scales.
        model: The network as Fabric wraps it; set by :meth:`enter_epoch`.
        rule: The loss in force; also set there.
        loaded_weights: What became of every tensor of ``encoder.weights``.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: Config,
        classes: int,
        targets: Tensor | None = None,
        *,
        is_restored: bool = False,
    ) -> None:
        """Build everything, in every process from the same start; one that is restored needs no weights.

        ``targets`` are a teacher's embeddings of the training images, if the configuration has a teacher.
        """
        self._fabric, self._config = fabric, config
        torch.manual_seed(config.seed)
        network = encoder_of(config, weights="none" if is_restored else None)
        self.loaded_weights: WeightsReport | None = network.loaded_weights
        encoder: nn.Module = network
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            encoder = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)  # type: ignore[no-untyped-call]
        # Channels last: on two cores a step took two thirds of the time, on GPUs it suits the tensor cores.
        self.encoder = encoder.to(fabric.device).to(memory_format=torch.channels_last)
        self._quantisation = None
        if config.quantisation is not None:
            crop, channels = config.crop, 1 if config.encoder.color == "grey" else 3
            image = (channels, crop.height_px, crop.width_px)
            self._quantisation = FakeQuantisation(self.encoder, image)
        size = config.encoder.embedding_size
        self._loss = _loss(config.loss.name, config.loss.options, classes, size).to(fabric.device)
        if config.run.recompute_activations:
            require_blocks(config.encoder.name, encoder.backbone)  # type: ignore[arg-type]
            self.encoder.recomputes = True  # type: ignore[assignment]
        memory = config.memory
        self._memory = (
            CrossBatchMemory(memory.size, size, memory.margin).to(fabric.device)
            if memory.size
            else None
        )
        stage = config.softmax_stage
        self._softmax = (
            _loss(stage.name, stage.options, classes, size).to(fabric.device)
            if stage.epochs
            else None
        )
        self._distillation = None
        if config.distillation is not None and targets is not None:
            self._targets = targets.to(fabric.device)
            self._distillation = Distillation(
                config.distillation.name,
                embedding_size=size,
                teacher_size=targets.shape[1],
                **config.distillation.options,
            ).to(fabric.device)
        optimiser = fabric.setup_optimizers(self._build_optimiser())
        assert isinstance(optimiser, _FabricOptimizer)  # noqa: S101 - one in, one out
        self.optimiser = optimiser
        decay = config.run.ema_decay
        self._average = build_average(self.encoder, decay) if decay else None
        self._state: tuple[bool, bool] | None = None

    @property
    def evaluated(self) -> nn.Module:
        """What is validated and kept: the average if there is one, else the encoder."""
        return self._average.module if self._average is not None else self.encoder

    def enter_epoch(self, epoch: int) -> None:
        """Freeze or release the backbone, and choose the loss."""
        frozen = epoch < self._config.optimiser.frozen_epochs
        in_softmax = self._softmax is not None and epoch < self._config.softmax_stage.epochs
        if self._state != (frozen, in_softmax):
            set_backbone_frozen(self.encoder, frozen)
            # Wrapped again: processes exchange the gradients of what was trainable then.
            self.model = self._fabric.setup_module(self.encoder)
            self.rule = self._softmax if in_softmax and self._softmax else self._loss
            self._state = (frozen, in_softmax)
        self.model.train()
        if self._quantisation is not None:
            hold_norms(self.encoder)

    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings of a batch, with its graph; rounded if the run fine-tunes for int8."""
        with self.rounded(observe=True):
            rows: Tensor = self.model(images)
        return rows

    @contextmanager
    def rounded(self, *, observe: bool = False) -> Iterator[None]:
        """Round forward passes as the export will, if the run fine-tunes for int8."""
        if self._quantisation is None:
            yield
            return
        with self._quantisation.applied(observe=observe):
            yield

    def loss(self, batch: Gathered, step: int = 0) -> LossOutput:
        """Return the loss in force of the global batch, with those to the teacher and against the memory."""
        outcome = self.rule(batch.embeddings, batch.labels, batch.forgeries)
        assert isinstance(outcome, LossOutput)  # noqa: S101 - what every loss returns
        memory = self._config.memory
        if (
            self._memory is not None
            and step >= memory.start_step
            and self.rule is not self._softmax
        ):
            further = self._memory(batch.embeddings, batch.labels, batch.forgeries)
            statistics = {**outcome.statistics, "memory_loss": further.detach()}
            outcome = LossOutput(outcome.loss + memory.weight * further, statistics)
        section = self._config.distillation
        if self._distillation is None or section is None:
            return outcome
        taught = self._distillation(batch.embeddings, self._targets[batch.rows])
        loss = section.weight * taught
        if section.metric_weight:
            loss = loss + section.metric_weight * outcome.loss
        return LossOutput(loss, {**outcome.statistics, "distillation": taught.detach()})

    def take_step(self, factor: float) -> Tensor:
        """Clip, step and average; return the norm of the encoder's gradient before clipping."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        if self._fabric.world_size > 1:
            # Every process computed them from the same rows; kept equal to the last bit.
            for parameter in self._trained_with_it():
                if parameter.grad is not None:
                    mean = self._fabric.all_reduce(parameter.grad)
                    parameter.grad.copy_(mean)  # type: ignore[arg-type]
        limit = self._config.optimiser.clip_norm or float("inf")
        norm = self._fabric.clip_gradients(
            self.model, self.optimiser, max_norm=limit, error_if_nonfinite=False
        )
        assert norm is not None  # noqa: S101 - given for max_norm
        # A GradScaler of 16-mixed leaves such a step out by itself; everything else stops the run.
        if torch.isfinite(norm) or self._config.run.precision == "16-mixed":
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update_parameters(self.encoder)
        return norm

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        parts = {"encoder": self.encoder, "loss": self._loss}
        parts |= {"softmax": self._softmax} if self._softmax is not None else {}
        parts |= {"average": self._average} if self._average is not None else {}
        parts |= {"distillation": self._distillation} if self._distillation is not None else {}
        parts |= {"quantisation": self._quantisation} if self._quantisation is not None else {}
        parts |= {"memory": self._memory} if self._memory is not None else {}
        return {
            "modules": {name: part.state_dict() for name, part in parts.items()},
            "optimiser": self.optimiser.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state that :meth:`state` returned."""
        modules = state["modules"]
        self.encoder.load_state_dict(modules["encoder"])
        self._loss.load_state_dict(modules["loss"])
        if self._softmax is not None:
            self._softmax.load_state_dict(modules["softmax"])
        if self._average is not None:
            self._average.load_state_dict(modules["average"])
        if self._distillation is not None:
            self._distillation.load_state_dict(modules["distillation"])
        if self._quantisation is not None:
            self._quantisation.load_state_dict(modules["quantisation"])
        if self._memory is not None:
            self._memory.load_state_dict(modules["memory"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._fabric.strategy.precision.load_state_dict(state["precision"])

    def _trained_with_it(self) -> Iterator[nn.Parameter]:
        """Yield the parameters in force that are not the encoder's."""
        yield from self.rule.parameters()
        if self._distillation is not None:
            yield from self._distillation.parameters()

    def _build_optimiser(self) -> torch.optim.Optimizer:
        config = self._config.optimiser
        parts = {name: (part, config.rate) for name, part in parameter_groups(self.encoder).items()}
        if config.backbone_rate is not None:
            parts["backbone"] = (parts["backbone"][0], config.backbone_rate)
        losses = [p for p in (self._loss, self._softmax, self._distillation) if p is not None]
        parts["loss"] = ([p for part in losses for p in part.parameters()], config.rate)
        groups = []
        for parameters, rate in parts.values():
            for decays in (True, False):
                # Decay is for matrices; a bias or the scale of a norm has no reason to be small.
                members = [p for p in parameters if (p.ndim > 1) is decays]
                decay = config.weight_decay if decays else 0.0
                if members:
                    groups.append(
                        {"params": members, "lr": rate, "peak": rate, "weight_decay": decay}
                    )
        if config.name == "sgd":
            return torch.optim.SGD(groups, momentum=config.momentum)
        return torch.optim.AdamW(groups)


def encoder_of(config: Config, *, weights: str | None = None) -> EmbeddingNetwork:
    """Build the encoder that a configuration names, with its weights or others."""
    encoder = config.encoder
    return build_encoder(
        encoder.name,
        embedding_size=encoder.embedding_size,
        weights=encoder.weights if weights is None else weights,
        input_channels=1 if encoder.color == "grey" else 3,
        **encoder.options,
    )


def input_of(config: Config) -> InputSpec:
    """Return the input specification of the configured encoder."""
    channels = 1 if config.encoder.color == "grey" else 3
    scale, mean, std = input_statistics(config.encoder.name, channels)
    crop = config.crop
    return InputSpec(crop.height_px, crop.width_px, config.encoder.color, scale, mean, std)


def gather(fabric: Fabric, embeddings: Tensor, batch: Batch) -> Gathered:
    """Return the global batch, so that mining uses all of it.

    Each process computes the whole loss and the gradient of all rows; what comes back to a process is the
    sum over processes for its own rows, which the mean over processes of the weights' gradients then
    makes the gradient of one process with the whole batch.
    """
    local = Gathered(embeddings, batch.labels, batch.forgeries, batch.rows)
    if fabric.world_size == 1:
        return local
    parts: list[Tensor] = [
        fabric.all_gather(embeddings, sync_grads=True),  # type: ignore[list-item]
        *(fabric.all_gather(part) for part in local[1:]),  # type: ignore[list-item]
    ]
    return Gathered(*(part.flatten(0, 1) for part in parts))


def _loss(name: str, options: dict[str, Any], classes: int, embedding_size: int) -> nn.Module:
    return build_loss(name, classes=classes, embedding_size=embedding_size, **options)
