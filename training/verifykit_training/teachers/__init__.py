"""Teachers: networks whose embeddings a smaller student learns.

A teacher is a finished run, any verifykit model, or a torch module, named in ``distillation.teacher`` or
given to the job. Each is opened as a :class:`Teacher`; to the rest of training they are all alike.
"""

from __future__ import annotations

from verifykit_training.teachers.base import Teacher
from verifykit_training.teachers.opening import open_teacher, require_teachable
from verifykit_training.teachers.targets import Targets, embed_targets, seen_by_teacher
from verifykit_training.teachers.torch_module import module_teacher

__all__ = [
    "Targets",
    "Teacher",
    "embed_targets",
    "module_teacher",
    "open_teacher",
    "require_teachable",
    "seen_by_teacher",
]
