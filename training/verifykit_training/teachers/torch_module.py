"""Teachers that are torch networks: a module of the user's own, and a finished run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from verifykit.encoder import Encode
from verifykit.errors import shortened, shown
from verifykit.modalities import to_tensor
from verifykit.spec import InputSpec
from verifykit.spec.strict_json import canonical, plain
from verifykit.types import Embeddings, Image
from verifykit_training.config import Config
from verifykit_training.crop_cache import build_extractor
from verifykit_training.errors import TrainingError, first_line
from verifykit_training.evaluation import load_encoder
from verifykit_training.learner import input_of
from verifykit_training.run_folder import RunFolder, TeacherRecord
from verifykit_training.teachers.base import Teacher

_BATCH = 16


def module_teacher(
    module: nn.Module,
    config: Config,
    *,
    name: str,
    licence: str = "not stated",
    training_data: str = "not stated",
    input_spec: InputSpec | None = None,
    device: torch.device | str = "cpu",
) -> Teacher:
    """Make a teacher of a torch module.

    Args:
        module: Maps (N, C, H, W) float32 to (N, D); rows are scaled to unit length. It is put into ``eval``
            and its parameters stop requiring gradients.
        config: Of the student, whose kind of crop the teacher sees.
        name: What the student's model card calls it.
        licence: SPDX identifier of its weights, for the card.
        training_data: What it was trained on, and the terms, for the card.
        input_spec: Size, colour and scale of its input; None takes those of the student.
        device: Where it computes.

    Returns:
        The teacher. Its digest covers weights, buffers, printed structure and input; a change of code that
        leaves these as they are is not noticed.

    Raises:
        TrainingError: It does not map images to rows.
    """
    spec = input_spec or input_of(config)
    module = module.eval().requires_grad_(False).to(device)
    encode = _encoder_of(module, spec, name, torch.device(device))
    blank = np.full((spec.height_px, spec.width_px, 3), 128, np.uint8)
    size = encode([blank]).shape[1]
    crop = config.crop.model_copy(update={"height_px": spec.height_px, "width_px": spec.width_px})
    record = TeacherRecord(
        name=name,
        digest=_module_digest(module, spec),
        modality=config.modality,
        embedding_size=size,
        licence=licence,
        training_data=training_data,
    )
    return Teacher(record, build_extractor(crop), encode)


def run_teacher(path: Path, *, device: torch.device | str = "cpu") -> Teacher:
    """Open the weights that a finished run has kept."""
    run = RunFolder(path)
    record = run.read_record()
    encoder, config = load_encoder(run)
    encoder = encoder.requires_grad_(False).to(device)
    name = f"training run {record.name}"
    return Teacher(
        TeacherRecord(
            name=name,
            digest=_module_digest(encoder, record.input),
            modality=record.modality,
            embedding_size=record.embedding_size,
            licence=record.licence,
            training_data=record.training_data,
        ),
        build_extractor(config.crop),
        _encoder_of(encoder, record.input, name, torch.device(device)),
        run.read_trained_on(),
    )


def _encoder_of(module: nn.Module, spec: InputSpec, name: str, device: torch.device) -> Encode:
    @torch.no_grad()
    def encode(crops: Sequence[Image]) -> Embeddings:
        parts = []
        for start in range(0, len(crops), _BATCH):
            images = torch.from_numpy(to_tensor(crops[start : start + _BATCH], spec)).to(device)
            parts.append(_unit_rows(_answered(module, images, name), len(images), name))
        return np.concatenate(parts)

    return encode


def _answered(module: nn.Module, images: torch.Tensor, name: str) -> torch.Tensor:
    try:
        found = module(images)
    except Exception as error:  # a foreign module raises anything
        raise TrainingError(
            f"the teacher {shortened(name)} does not take images of {tuple(images.shape)}: "
            f"{first_line(error)}; a module with another input states it as its attribute input_spec"
        ) from error
    if not isinstance(found, torch.Tensor):
        raise TrainingError(
            f"the teacher {shortened(name)} returns {type(found).__name__}, not a tensor (N, D)"
        )
    return found


def _unit_rows(found: torch.Tensor, count: int, name: str) -> Embeddings:
    if found.ndim != 2 or len(found) != count or not found.is_floating_point():
        raise TrainingError(
            f"the teacher {shortened(name)} returns {shown(str(found.dtype))} of shape "
            f"{tuple(found.shape)} for {count} images, not (N, D) embeddings"
        )
    rows: Embeddings = found.detach().double().cpu().numpy()
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise TrainingError(
            f"the teacher {shortened(name)} returned a row that is zero or not finite"
        )
    return np.asarray(rows / lengths, np.float32)


def _module_digest(module: nn.Module, spec: InputSpec) -> str:
    found = hashlib.sha256(canonical({"input": plain(spec), "module": repr(module)}))
    for key, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        found.update(f"{key}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
