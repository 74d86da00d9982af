"""What a run is asked for, and how far it came."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.config import Config

__all__ = ["Job", "Outcome"]


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where to.

    Attributes:
        config: As the TOML file states it.
        data: A folder with a folder for each subject, or a CSV.
        run: The run's folder.
        cache: Folder of the crops; None is verifykit's own.
        triplets: A CSV of triplets, for ``sampler.name = "triplet_file"``.
        resume: Go on with the run that lies in the folder.
        stop_after: Stop in good order once so many epochs are done; the schedule is that of all.
        quiet: No progress on standard error.
    """

    config: Config
    data: Path
    run: Path
    cache: Path | None = None
    triplets: Path | None = None
    resume: bool = False
    stop_after: int | None = None
    quiet: bool = False


@dataclass
class Outcome:
    """How far a run came; a checkpoint holds it too.

    Attributes:
        epoch: Epochs done.
        batch: Steps done in the epoch under way.
        step: Optimiser steps done.
        best_epoch: The epoch, from 1, whose weights are kept; 0 before the first validation.
        best: Its validation metric; None without validation.
        without_gain: Validations since.
        ended: Whether there is nothing left to do.
        collapsed: Whether collapse was said.
        is_first_process: Whether this is the process that writes.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: float | None = None
    without_gain: int = 0
    ended: bool = False
    collapsed: bool = False
    is_first_process: bool = True
