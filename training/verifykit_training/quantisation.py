"""Fake quantisation: train with the rounding that an int8 export will have.

The scheme is that of ``verifykit-export --precision int8``: weights of convolutions and linear layers
symmetric in [-127, 127] with a scale for each output channel; what enters and what leaves a convolution, a
linear layer or an addition, in 256 steps of one scale. A ReLU that follows is part of the layer before it.
Batch norms that follow are folded by the export, which changes the scale of a channel of weights and not
their rounding, so here they only stand still.

Gradients pass through the rounding as if it were not there (straight-through: Bengio, Léonard and
Courville, arXiv 1308.3432; for whole networks Jacob et al., CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_LOW, _HIGH = -128, 127
_WEIGHT_LIMIT = 127
# Share of the newest batch in the range of an activation.
_MOMENTUM = 0.05
_RECTIFIERS = (
    functional.relu,
    functional.relu6,
    functional.hardtanh,
    torch.relu,
    torch.relu_,
    Tensor.relu,
    Tensor.relu_,
)
_WEIGHTED = (functional.conv2d, torch.conv2d, functional.linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSPECTIONS = (Tensor.dim, Tensor.size, Tensor.numel, Tensor.is_floating_point, Tensor.type)
_ADDITIONS = (torch.add, Tensor.add, Tensor.add_)


class FakeQuantisation(nn.Module):
    """The ranges of a network's activations, and the rounding of what it computes.

    Within :meth:`applied` every forward pass of the network is rounded. The network itself stays as it
    is: its weights, their names and its export.

    Args:
        network: Whose forward pass takes the same way for every input.
        image: (C, H, W) of its input.
    """

    def __init__(self, network: nn.Module, image: tuple[int, ...]) -> None:
        super().__init__()
        self.ranges: Tensor
        device = next(network.parameters()).device
        self.register_buffer("ranges", torch.full((0, 2), torch.nan, device=device))
        mode = _Rounding(self, counts_only=True)
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        try:
            with torch.no_grad(), mode:
                network(torch.zeros(1, *image, device=device))
        finally:
            for module, training in modes:
                module.training = training
        self.ranges = torch.full((mode.place, 2), torch.nan, device=device)

    @contextmanager
    def applied(self, *, observe: bool) -> Iterator[None]:
        """Round one forward pass, or several after one another without gradients.

        Args:
            observe: Whether the ranges follow what is seen.
        """
        with _Rounding(self, observe=observe):
            yield

    def rounded(self, place: int, values: Tensor, *, observe: bool) -> Tensor:
        """Return activations in 256 steps of the range of their place in the network."""
        known = self.ranges[place]
        if observe or bool(known.isnan().any()):
            seen = torch.stack(values.detach().aminmax())
            # Zero is representable, as in ONNX.
            seen = torch.stack([seen[0].clamp(max=0.0), seen[1].clamp(min=0.0)])
            known = torch.where(known.isnan(), seen, known.lerp(seen, _MOMENTUM))
            if observe:
                self.ranges[place] = known
        scale = ((known[1] - known[0]) / (_HIGH - _LOW)).clamp_min(torch.finfo(known.dtype).tiny)
        zero = (_LOW - known[0] / scale).round().clamp(_LOW, _HIGH).to(torch.int32)
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(values, scale, zero, _LOW, _HIGH)
        return rounded


def rounded_weight(weight: Tensor) -> Tensor:
    """Return weights in 255 steps, symmetric, with a scale for each output channel."""
    greatest = weight.detach().flatten(1).abs().amax(dim=1)
    scale = (greatest / _WEIGHT_LIMIT).clamp_min(torch.finfo(weight.dtype).tiny)
    zero = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
    rounded: Tensor = torch.fake_quantize_per_channel_affine(
        weight, scale, zero, 0, -_WEIGHT_LIMIT, _WEIGHT_LIMIT
    )
    return rounded


def hold_norms(network: nn.Module) -> None:
    """Let the statistics of batch norms stand still, since the export folds them into the weights."""
    for module in network.modules():
        if isinstance(module, _NORMS):
            module.eval()


class _Rounding(TorchFunctionMode):
    """Calls of torch functions, in the order of a forward pass, with rounded values.

    What a convolution or linear layer gives is rounded when it is first used: a batch norm that follows is
    folded into it, and a ReLU that follows takes its place.
    """

    def __init__(
        self, quantisation: FakeQuantisation, *, observe: bool = False, counts_only: bool = False
    ) -> None:
        super().__init__()
        self.place = 0
        self._quantisation, self._observe, self._counts_only = quantisation, observe, counts_only
        # By identity; the tensors are held, so that no other takes their place.
        self._pending: dict[int, Tensor] = {}
        self._rounded: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _WEIGHTED and len(args) >= 2:
            weight = args[1] if self._counts_only else rounded_weight(args[1])
            return self._leaving(func(self._round(args[0]), weight, *args[2:], **kwargs))
        if func is functional.batch_norm and id(args[0]) in self._pending:
            return self._leaving(func(*args, **kwargs))
        if func in _RECTIFIERS:
            return self._round(self._fresh(func(*args, **kwargs)))
        if func is functional.prelu:
            return func(self._round(args[0]), *args[1:], **kwargs)
        if func in _ADDITIONS and _adds_maps(args):
            found = torch.add(*map(self._round, args), **kwargs)
            return self._leaving(args[0].copy_(found) if func is Tensor.add_ else found)
        if func in _INSPECTIONS or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        return func(*map(self._used, args), **kwargs)

    def _leaving(self, values: Tensor) -> Tensor:
        self._pending[id(self._fresh(values))] = values
        return values

    def _fresh(self, values: Tensor) -> Tensor:
        """Forget what a tensor was before an operation in place."""
        self._pending.pop(id(values), None)
        self._rounded.pop(id(values), None)
        return values

    def _used(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._used, value)) if type(value) in (list, tuple) else value
        return self._round(value) if id(value) in self._pending else value

    def _round(self, values: Tensor) -> Tensor:
        """Return a tensor rounded, and the same again for the same tensor, or for what was rounded."""
        if id(values) in self._rounded:
            return self._rounded[id(values)][1]
        count = len(self._quantisation.ranges)
        found = values
        if not self._counts_only:
            found = self._quantisation.rounded(self.place, values, observe=self._observe)
        self._rounded[id(values)] = values, found
        self._rounded[id(found)] = found, found
        self.place += 1
        if self.place == count:  # the end of a forward pass
            self.place = 0
            self._pending.clear()
            self._rounded.clear()
        return found


def _adds_maps(args: tuple[Any, ...]) -> bool:
    """Return whether two feature maps are added, rather than numbers or counters."""
    return len(args) == 2 and all(
        isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()
        for value in args
    )
