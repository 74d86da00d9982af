"""A model as applications name it, opened and calibrated."""

from __future__ import annotations

import os

from verifykit.calibration import Calibration
from verifykit.encoder import Encoder
from verifykit.errors import InputError
from verifykit.models import load
from verifykit.session import Provider

__all__ = ["open_encoder"]


def open_encoder(
    model: str | os.PathLike[str] | Encoder,
    calibration: str | os.PathLike[str] | Calibration | None = None,
    *,
    providers: Provider = "auto",
    threads: int | None = None,
) -> Encoder:
    """Open a model, unless it is open, and put a calibration in place of its own.

    Args:
        model: A registered name, the path of a model file, or an open encoder.
        calibration: A calibration, the path of its file, or None for the model's own.
        providers: Where it runs; of an open encoder what it runs on already, or ``"auto"``.
        threads: Threads within one network run; None takes every core. Not with an open encoder.

    Raises:
        ModelError: The model is not found, damaged, or not what it says it is.
        ProviderError: The provider is not there.
        CalibrationError: The calibration cannot be read, or is of another model.
        InputError: Providers or threads for an encoder that is open on something else.
    """
    if not isinstance(model, Encoder):
        model = Encoder.open(load(model), providers=providers, threads=threads)
    elif threads is not None or providers not in ("auto", model.provider):
        raise InputError(f"this encoder is open on {model.provider!r}: give these to Encoder.open")
    return model if calibration is None else model.calibrated(calibration)
