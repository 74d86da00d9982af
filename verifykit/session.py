"""The only import of onnxruntime: open a network, choose its provider, run it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import (
    InputError,
    ModelContractError,
    ModelIntegrityError,
    ProviderError,
    shown,
)

logger = logging.getLogger("verifykit")

Provider: TypeAlias = Literal["auto", "cpu", "cuda", "openvino"]

_NAMES = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_EXTRAS = {"cuda": "gpu", "openvino": "openvino", "cpu": "cpu"}


def available_providers() -> tuple[str, ...]:
    """Providers that this onnxruntime was built with, best first: ``"cuda"``, ``"openvino"``, ``"cpu"``.

    Built with is not the same as working: CUDA's libraries may still be missing. :class:`Session`
    finds out.

    Raises:
        ProviderError: onnxruntime is not installed.
    """
    built_in = _onnxruntime().get_available_providers()
    return tuple(short for short, name in _NAMES.items() if name in built_in)


class Session:
    """A network on ONNX Runtime; safe to share between threads.

    Attributes:
        provider: The provider that it runs on: ``"cuda"``, ``"openvino"`` or ``"cpu"``.
        output_names: Names of the network's outputs, in the order that :meth:`run` returns them.
    """

    def __init__(
        self, model: bytes, *, name: str, providers: Provider = "auto", threads: int | None = None
    ) -> None:
        """Open a network.

        Args:
            model: An ONNX model's bytes; one float32 input.
            name: What to call it in messages.
            providers: ``"auto"`` takes the best provider that works and logs which; any other name is
                used or refused, never replaced.
            threads: Threads within one run; None lets onnxruntime take every core.

        Raises:
            ProviderError: The provider is not there, did not load, or onnxruntime is not installed.
            ModelIntegrityError: onnxruntime cannot parse or build the model.
            InputError: Unknown provider, or ``threads`` is not a positive integer.
        """
        if providers not in get_args(Provider):
            raise InputError(
                f"providers must be one of {get_args(Provider)}, got {shown(providers)}"
            )
        if threads is not None and not (isinstance(threads, int) and threads >= 1):
            raise InputError(f"threads must be a positive integer, got {shown(threads)}")
        self._name = name
        self._session, self.provider = _open(model, name, providers, threads)
        (self._input,) = (node.name for node in self._session.get_inputs())
        self.output_names = tuple(node.name for node in self._session.get_outputs())

    def run(self, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run the network.

        Args:
            tensor: (N, C, H, W) float32.

        Returns:
            Its outputs, in the order of ``output_names``.

        Raises:
            ModelContractError: The network does not take a tensor of this shape.
            ProviderError: The provider failed, for instance for want of memory.
        """
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(None, {self._input: tensor})
        except Exception as error:
            if type(error).__name__ == "InvalidArgument":
                raise ModelContractError(
                    f"{self._name}: the network does not take {tensor.shape}: {error}"
                ) from error
            raise ProviderError(
                f"{self._name}: {self.provider} failed on {tensor.shape}: {error}"
            ) from error
        return outputs


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            "onnxruntime is not installed; install one of: pip install 'verifykit-sdk[cpu]', "
            "'verifykit-sdk[gpu]' (CUDA) or 'verifykit-sdk[openvino]', never two of them"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise ProviderError(
            "onnxruntime is installed but broken, as happens when two of its packages overwrite each "
            "other: pip uninstall onnxruntime onnxruntime-gpu onnxruntime-openvino, then install one"
        )
    return onnxruntime


def _open(model: bytes, name: str, asked: Provider, threads: int | None) -> tuple[Any, str]:
    built_in = available_providers()
    if asked != "auto":
        if asked not in built_in:
            raise ProviderError(
                f"providers={shown(asked)}: this onnxruntime has {', '.join(built_in)} only; "
                f"install the extra: pip install 'verifykit-sdk[{_EXTRAS[asked]}]'"
            )
        return _load(model, name, asked, threads), asked
    refusals = []
    for candidate in built_in:
        try:
            session = _load(model, name, candidate, threads)
        except ProviderError as error:
            refusals.append(str(error))
            logger.warning("%s", error)
            continue
        logger.info("%s: runs on %s", name, candidate)
        return session, candidate
    raise ProviderError(f"{name}: no provider works: {'; '.join(refusals) or 'none is built in'}")


def _load(model: bytes, name: str, provider: str, threads: int | None) -> Any:
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(model, options, providers=[_NAMES[provider]])
    except Exception as error:
        if provider == "cpu" or type(error).__name__ in ("InvalidProtobuf", "InvalidGraph"):
            raise ModelIntegrityError(
                f"{name}: onnxruntime cannot load the model: {error}"
            ) from error
        raise ProviderError(
            f"{name}: providers={shown(provider)} did not start: {error}"
        ) from error
    # onnxruntime itself falls back to the CPU, with a log line, when CUDA's libraries are missing.
    running = session.get_providers()
    if running[0] != _NAMES[provider]:
        raise ProviderError(
            f"{name}: providers={shown(provider)} was asked for, but onnxruntime fell back to {running[0]}: "
            "a library or the device is missing (CUDA and cuDNN of the versions that this "
            "onnxruntime-gpu wants, and an NVIDIA driver); `verifykit doctor` tells more"
        )
    session.disable_fallback()
    return session


def unit_rows(
    outputs: Sequence[NDArray[np.float32]], name: str, count: int, size: int
) -> NDArray[np.float32]:
    """The single (N, D) output of an encoder as unit rows."""
    if len(outputs) != 1 or outputs[0].shape != (count, size):
        shapes = [output.shape for output in outputs]
        raise ModelContractError(f"{name}: one output of {(count, size)} is wanted, got {shapes}")
    lengths = np.linalg.norm(outputs[0], axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ModelContractError(f"{name}: the network returned a row that is zero or not finite")
    return np.asarray(outputs[0] / lengths, dtype=np.float32)
