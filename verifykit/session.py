"""The only import of onnxruntime: open a network, choose its provider, run it.

A session that was opened before ``fork`` has threads that the child does not have. The child forgets it,
without ending it (that would wait for those threads), and opens its own at the first run.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from verifykit import _environment
from verifykit._cpus import available_cpus, computes_bf16, network_threads
from verifykit._prelu import with_prelu
from verifykit.errors import (
    InputError,
    ModelContractError,
    ModelIntegrityError,
    ProviderError,
    shown,
)

logger = logging.getLogger("verifykit")

Provider: TypeAlias = Literal["auto", "cpu", "cuda", "openvino"]
Precision: TypeAlias = Literal["fp32", "bf16"]

# In the order in which "auto" tries them. In float32 OpenVINO is not faster than the CPU provider
# (benchmarks.precision, docs/adr/0021), so that "auto" takes it for bfloat16 only.
_NAMES = {
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
# OpenVINO's own default is bfloat16 wherever the processor has it: it is always named.
_OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
# The same for a network with integer arithmetic: int8 is slower than float32 on the CPU provider.
_INTEGER_ORDER = ("cuda", "openvino", "cpu")
_INTEGERS = (
    b"QuantizeLinear"  # an operator's name in the file; DequantizeLinear alone is of stored weights
)

_TELEMETRY_SINCE = (1, 29)
# A worker that waits for the next operator of a run sleeps, and waking it takes as long as many operators.
# It spins for this long instead, within runs only; before this version it would spin for milliseconds.
_SPIN_US = 100
_SPIN_SINCE = (1, 26)
_EXTRAS = {"cuda": "gpu", "openvino": "openvino", "cpu": "cpu"}


@dataclass(frozen=True)
class NetworkOptions:
    """Where and how networks run.

    Attributes:
        providers: ``"auto"`` takes the first of ``"cuda"`` and ``"cpu"`` that works, with ``"openvino"``
            before ``"cpu"`` for a network in int8, and ``"openvino"`` for ``precision="bf16"``; any other
            name is used or refused, never replaced.
        threads: Threads within one run; None takes every core that this process may use.
        precision: ``"fp32"``, or ``"bf16"``, in which encoders run on OpenVINO. Detectors stay in float32.
    """

    providers: Provider = field(
        default="auto",
        metadata={"help": "Where the network runs; a named provider is used or it is an error."},
    )
    threads: int | None = field(
        default=None,
        metadata={"help": "Threads of a network run; default: all cores.", "bounds": {"ge": 1}},
    )
    precision: Precision = field(
        default="fp32",
        metadata={
            "help": "bf16 runs the encoder in bfloat16, on OpenVINO; refused where it cannot."
        },
    )


class TelemetryWarning(UserWarning):
    """onnxruntime was imported before verifykit, which could not turn its telemetry off in time."""


def available_providers() -> tuple[str, ...]:
    """Providers that this onnxruntime was built with, in the order in which ``"auto"`` tries them.

    Built with is not the same as working: CUDA's libraries may still be missing. :class:`Session`
    finds out.

    Raises:
        ProviderError: onnxruntime is not installed.
    """
    built_in = _onnxruntime().get_available_providers()
    return tuple(short for short, name in _NAMES.items() if name in built_in)


class _Forkable(ABC):
    """A session of ONNX Runtime that a forked child leaves alone, and opens again at its first run."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._lock = threading.Lock()
        _sessions.add(self)

    def forget(self) -> None:
        """Leave the session of the parent process alone, for ever; the next run opens another one."""
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session, self._lock = None, threading.Lock()

    def _opened_here(self) -> Any:
        with self._lock:
            if self._session is None:
                self._session = self._open_again()
            return self._session

    @abstractmethod
    def _open_again(self) -> Any:
        """Open the session in this process."""


class Session(_Forkable):
    """A network on ONNX Runtime; safe to share between threads, and to use in a forked process.

    Attributes:
        provider: The provider that it runs on: ``"cuda"``, ``"openvino"`` or ``"cpu"``.
        precision: The precision that it computes in: ``"fp32"`` or ``"bf16"``.
        output_names: Names of the network's outputs, in the order that :meth:`run` returns them.
    """

    def __init__(
        self,
        model: bytes,
        *,
        name: str,
        providers: Provider = "auto",
        threads: int | None = None,
        precision: Precision = "fp32",
        reread: Callable[[], bytes] | None = None,
    ) -> None:
        """Open a network.

        Args:
            model: An ONNX model's bytes; one float32 input.
            name: What to call it in messages.
            providers: ``"auto"`` takes the best provider that works and logs which; any other name is
                used or refused, never replaced.
            threads: Threads within one run; None takes every core that this process may use.
            precision: What to compute in: ``"bf16"`` on OpenVINO only.
            reread: Returns ``model`` again, in a forked process; None keeps ``model`` in memory.

        Raises:
            ProviderError: The provider is not there, did not load, or onnxruntime is not installed; with
                ``"bf16"`` also: the processor does not compute in bfloat16.
            ModelIntegrityError: onnxruntime cannot parse or build the model.
            InputError: Unknown provider or precision, ``threads`` is not a positive integer, or the provider
                has no such precision.
        """
        if providers not in get_args(Provider):
            raise InputError(
                f"providers must be one of {get_args(Provider)}, got {shown(providers)}"
            )
        if precision not in get_args(Precision):
            raise InputError(
                f"precision must be one of {get_args(Precision)}, got {shown(precision)}"
            )
        if precision == "bf16":
            providers = _require_bf16(providers)
        if threads is not None and not (isinstance(threads, int) and threads >= 1):
            raise InputError(f"threads must be a positive integer, got {shown(threads)}")
        self._name, self._threads, self.precision = name, threads, precision
        self._reread = reread or (lambda: model)
        session, provider = _open(model, name, providers, threads, precision)
        self.provider = provider
        (self._input,) = (node.name for node in session.get_inputs())
        self.output_names = tuple(node.name for node in session.get_outputs())
        super().__init__(session)

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
        session = self._session or self._opened_here()
        try:
            outputs: list[NDArray[np.float32]] = session.run(None, {self._input: tensor})
        except Exception as error:
            if type(error).__name__ == "InvalidArgument":
                raise ModelContractError(
                    f"{self._name}: the network does not take {tensor.shape}: {error}"
                ) from error
            raise ProviderError(
                f"{self._name}: {self.provider} failed on {tensor.shape}: {error}"
            ) from error
        return outputs

    def _open_again(self) -> Any:
        try:
            return _load(self._reread(), self._name, self.provider, self._threads, self.precision)
        except ProviderError as error:
            raise ProviderError(
                f"{error}; this process was forked from one that had the model open: start "
                "processes by 'spawn', or open the model after the fork"
            ) from error


# One MatMulInteger of ONNX opset 10, uint8 by int8 to int32: ModelProto as bytes, so that the
# runtime needs no package `onnx`. `tests/unit/test_session.py` reads it with that package.
INTEGER_PRODUCT = (
    b'\x08\x05:>\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01g'
    b"Z\t\n\x01a\x12\x04\n\x02\x08\x02Z\t\n\x01b\x12\x04\n\x02\x08\x03b\t\n\x01y\x12\x04\n\x02\x08\x06"
    b"B\x04\n\x00\x10\n"
)


class IntegerProduct(_Forkable):
    """The product of two matrices of 8-bit integers on one thread; safe to share, and after a fork."""

    def __init__(self) -> None:
        super().__init__(self._open_again())

    def run(self, left: NDArray[np.uint8], right: NDArray[np.int8]) -> NDArray[np.int32]:
        """Return (N, D) by each of (B, D, R), as (B, N, R)."""
        session = self._session or self._opened_here()
        product: NDArray[np.int32] = session.run(None, {"a": left, "b": right})[0]
        return product

    def _open_again(self) -> Any:
        return _load(INTEGER_PRODUCT, "the integer product", "cpu", 1)


_sessions: weakref.WeakSet[_Forkable] = weakref.WeakSet()


def _forget_inherited() -> None:
    for session in list(_sessions):
        session.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)


def telemetry_problem() -> str | None:
    """Return what is wrong if ONNX Runtime's telemetry may be on in this process; None if it is off."""
    ort = _onnxruntime()
    if _environment.telemetry_is_off() or _version(ort) < _TELEMETRY_SINCE:
        return None
    return (
        f"onnxruntime {ort.__version__} was imported before verifykit, without "
        f"{_environment.ORT_TELEMETRY}=1, so its telemetry may be on: it writes a device id into the home "
        "folder and calls its collector; import verifykit first, or set "
        f"{_environment.ORT_TELEMETRY}=1 before the process starts"
    )


def _version(ort: Any) -> tuple[int, ...]:
    """Return the first two numbers of onnxruntime's version."""
    parts = getattr(ort, "__version__", "").split(".")[:2]
    return tuple(int(part) for part in parts if part.isdecimal())


_warned = False


def _warn_of_telemetry() -> None:
    global _warned
    if not _warned and (problem := telemetry_problem()):
        _warned = True
        _onnxruntime().disable_telemetry_events()  # less is sent from now on
        logger.warning("%s", problem)
        warnings.warn(problem, TelemetryWarning, stacklevel=4)


def _onnxruntime() -> Any:
    _environment.disable_telemetry()
    try:
        import onnxruntime
    except ImportError as error:
        missing = (
            "onnxruntime is not installed; install one of: pip install 'verifykit-sdk[cpu]', "
            "'verifykit-sdk[gpu]' (CUDA) or 'verifykit-sdk[openvino]', never two of them"
        )
        raise ProviderError(_environment.import_problem(error, missing, "onnxruntime")) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise ProviderError(
            "onnxruntime is installed but broken, as happens when two of its packages overwrite each "
            "other: pip uninstall onnxruntime onnxruntime-gpu onnxruntime-openvino, then install one"
        )
    return onnxruntime


def _require_bf16(providers: Provider) -> Provider:
    """Return the provider that computes in bfloat16, or raise and name what is missing."""
    if providers not in ("auto", "openvino"):
        raise InputError(
            f"precision='bf16' needs OpenVINO, and providers={shown(providers)} was given: leave providers "
            "out, or give providers='openvino'"
        )
    if not computes_bf16():
        raise ProviderError(
            "precision='bf16': this processor has neither avx512_bf16 nor amx_bf16 (/proc/cpuinfo), or the "
            "system does not say; OpenVINO would compute in float32 instead: leave precision out"
        )
    if "openvino" not in (built_in := available_providers()):
        raise ProviderError(
            f"precision='bf16' needs OpenVINO, and this onnxruntime has {', '.join(built_in)} only: install "
            "the extra: pip install 'verifykit-sdk[openvino]'"
        )
    return "openvino"


def _open(
    model: bytes, name: str, asked: Provider, threads: int | None, precision: Precision
) -> tuple[Any, str]:
    built_in = available_providers()
    if asked != "auto":
        if asked not in built_in:
            raise ProviderError(
                f"providers={shown(asked)}: this onnxruntime has {', '.join(built_in)} only; "
                f"install the extra: pip install 'verifykit-sdk[{_EXTRAS[asked]}]'"
            )
        return _load(model, name, asked, threads, precision), asked
    refusals = []
    if _INTEGERS in model:
        built_in = tuple(sorted(built_in, key=_INTEGER_ORDER.index))
    for candidate in built_in:
        try:
            session = _load(model, name, candidate, threads, precision)
        except ProviderError as error:
            refusals.append(str(error))
            logger.warning("%s", error)
            continue
        logger.info("%s: runs on %s", name, candidate)
        return session, candidate
    raise ProviderError(f"{name}: no provider works: {'; '.join(refusals) or 'none is built in'}")


def _load(
    model: bytes,
    name: str,
    provider: str,
    threads: int | None,
    precision: Precision = "fp32",
) -> Any:
    ort = _onnxruntime()
    _warn_of_telemetry()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    threads = network_threads(threads)
    if threads is not None:
        options.intra_op_num_threads = threads
    if 1 < (threads or available_cpus()) <= available_cpus() and _version(ort) >= _SPIN_SINCE:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
        options.add_session_config_entry("session.force_spinning_stop", "1")
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen: Any = _NAMES[provider]
    if provider == "openvino":
        model, chosen = with_prelu(model), (chosen, _openvino_options(threads, precision))
    try:
        session = ort.InferenceSession(model, options, providers=[chosen])
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


def _openvino_options(threads: int | None, precision: Precision) -> dict[str, str]:
    """Return the provider's options, which does not look at those of the session.

    A stream is one run at a time: with one for every ``threads`` cores, runs of several callers do not wait
    for each other. The number of threads is that of all streams.
    """
    threads = threads or available_cpus()
    streams = max(1, available_cpus() // threads)
    hint = {"CPU": {"INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[precision]}}
    return {
        "device_type": "CPU",
        "num_of_threads": str(threads * streams),
        "num_streams": str(streams),
        "load_config": json.dumps(hint),
    }


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
