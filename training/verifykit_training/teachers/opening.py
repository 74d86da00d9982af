"""Find the teacher that ``distillation.teacher`` names: a module, a run, or a verifykit model."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import nn

from verifykit.encoder import Encoder
from verifykit.errors import shown
from verifykit.models import load, registered
from verifykit.spec import InputSpec
from verifykit_training.config import Config
from verifykit_training.errors import ConfigError, TrainingError, first_line
from verifykit_training.import_path import import_named
from verifykit_training.losses.distillation import Distillation
from verifykit_training.run_folder import TeacherRecord
from verifykit_training.teachers.base import Teacher
from verifykit_training.teachers.torch_module import module_teacher, run_teacher

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def open_teacher(
    config: Config,
    given: Teacher | nn.Module | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Teacher:
    """Open the teacher of a configuration.

    Args:
        config: With a section ``distillation``.
        given: A teacher or module from Python, which is taken in place of the named one.
        device: Where a torch teacher computes.

    Returns:
        The teacher.

    Raises:
        TrainingError: There is none, it cannot be imported, or it does not map images to rows.
        ModelError: The run or model cannot be opened.
    """
    if config.distillation is None:
        raise ConfigError("the configuration has no section distillation, so it takes no teacher")
    name = config.distillation.teacher
    if isinstance(given, Teacher):
        return given
    if given is not None:
        return _of_module(given, config, name, device)
    if _IMPORT_PATH.fullmatch(name) and not os.path.lexists(name):
        return _imported(name, config, device)
    if name not in registered() and Path(name).is_dir():
        return run_teacher(Path(name), device=device)
    return _of_model(name)


def require_teachable(config: Config, teacher: Teacher) -> None:
    """Raise ConfigError if a student of this configuration cannot learn from this teacher."""
    section, record = config.distillation, teacher.record
    if section is None:
        raise ConfigError("a teacher was given, and the configuration has no section distillation")
    if record.modality != config.modality:
        raise ConfigError(
            f"distillation.teacher: {shown(record.name)} compares {record.modality}, the student "
            f"{config.modality}: take a teacher of the same modality"
        )
    Distillation(
        section.name,
        embedding_size=config.encoder.embedding_size,
        teacher_size=record.embedding_size,
        **section.options,
    )


def _of_model(name: str) -> Teacher:
    encoder = Encoder.open(load(name))
    spec = encoder.spec
    record = TeacherRecord(
        name=spec.name,
        digest=spec.digest,
        modality=spec.modality,
        embedding_size=spec.embedding_size,
        licence=spec.licence,
        training_data=spec.provenance.training_data,
    )
    return Teacher(record, encoder.extractor, encoder.encode)


def _of_module(module: nn.Module, config: Config, name: str, device: torch.device | str) -> Teacher:
    spec = getattr(module, "input_spec", None)
    if spec is not None and not isinstance(spec, InputSpec):
        raise ConfigError(
            f"distillation.teacher: input_spec of {shown(name)} is {type(spec).__name__}, not a "
            "verifykit.spec.InputSpec"
        )
    texts = {}
    for key in ("licence", "training_data"):
        stated = getattr(module, key, "not stated")
        texts[key] = stated if isinstance(stated, str) else "not stated"
    return module_teacher(module, config, name=name, input_spec=spec, device=device, **texts)


def _imported(name: str, config: Config, device: torch.device | str) -> Teacher:
    """Import ``package.module:name``, a module or what makes one; the working folder is on the path."""
    found = import_named("distillation.teacher", name)
    try:
        made = found if isinstance(found, (nn.Module, Teacher)) else found()
    except Exception as error:  # another's code raises anything
        raise TrainingError(
            f"distillation.teacher {shown(name)} cannot be made: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(made, (nn.Module, Teacher)):
        raise TrainingError(
            f"distillation.teacher {shown(name)} gives {type(made).__name__}, not a torch.nn.Module"
        )
    return made if isinstance(made, Teacher) else _of_module(made, config, name, device)
