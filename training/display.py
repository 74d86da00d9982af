"""What a person sees of a run: progress with the time that is left, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from training.preparation import Prepared

__all__ = ["Display"]


class Display:
    """Progress and remarks of one run; as a context manager it owns the terminal's last lines."""

    def __init__(self, *, quiet: bool) -> None:
        """Choose whether anything is shown.

        Args:
            quiet: Show nothing.
        """
        self._console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @contextmanager
    def cropping(self) -> Iterator[Callable[[int], None]]:
        """Count images while they are cropped; nothing is shown when all were cropped before."""
        task = self._progress.add_task("cropping", total=None, visible=False)
        try:
            yield lambda done: self._progress.update(task, completed=done, visible=True)
        finally:
            self._progress.remove_task(task)

    def begin(self, data: Prepared, steps: int, done: int) -> None:
        """Say what is trained on, and begin to count.

        Args:
            data: Of the run.
            steps: Of the whole run.
            done: Steps done before.
        """
        held_out = (
            f"validated on {len(data.splits['validation'])} others"
            if data.validation is not None
            else "no validation subjects"
        )
        self.say(
            f"{len(data.train)} images of {len(data.subjects)} subjects, {held_out}; "
            f"{len(data.refused)} images gave no crop"
        )
        self._task = self._progress.add_task("training", total=steps, completed=done)

    def step(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Show a step.

        Args:
            step: Optimiser steps done.
            epoch: Counted from 1.
            values: Its metrics.
        """
        if self._task is not None:
            text = (
                f"epoch {epoch} loss {values['loss']:.4f} active {values['active_share']:.0%} "
                f"gradient {values['gradient_norm']:.2g}"
            )
            self._progress.update(self._task, completed=step, description=text)

    def validated(self, epoch: int, values: Mapping[str, float]) -> None:
        """Say what validation gave.

        Args:
            epoch: Counted from 1.
            values: Its metrics.
        """
        rates = ", ".join(f"{name} {value:.2%}" for name, value in values.items() if "eer" in name)
        self.say(f"epoch {epoch}: {rates} on {values['mated']:.0f} mated pairs")

    def say(self, text: str) -> None:
        """One remark, above the progress."""
        self._progress.console.print(text, highlight=False, markup=False)
