"""The learning rate over a run, as a factor of the configured rate."""

from __future__ import annotations

import math

from verifykit_training.config import ScheduleConfig


def rate_factor(schedule: ScheduleConfig, step: int, steps: int, steps_per_epoch: int) -> float:
    """Return the factor in [0, 1] at a step: linear warm-up, then cosine to the floor, steps, or 1.

    The cosine is that of Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, without restarts.
    """
    if step < schedule.warm_up_steps:
        return (step + 1) / (schedule.warm_up_steps + 1)
    if schedule.name == "cosine":
        done = (step - schedule.warm_up_steps) / max(1, steps - schedule.warm_up_steps)
        return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1)))
    if schedule.name == "step":
        epoch = step // steps_per_epoch
        return schedule.step_factor ** sum(epoch >= at for at in schedule.step_epochs)
    return 1.0
