"""Encoders, losses, samplers and the loop that train verifykit models; may import `verifykit`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from verifykit._environment import keep_matplotlib_here

if TYPE_CHECKING:
    from verifykit_training.python_entry import TrainedRun, train

__all__ = ["TrainedRun", "train"]

# Before albumentations is imported: it asks a server for a newer version otherwise.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
keep_matplotlib_here()


def __getattr__(name: str) -> Any:
    """Import torch only for a program that trains."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from verifykit_training import python_entry

    return getattr(python_entry, name)
