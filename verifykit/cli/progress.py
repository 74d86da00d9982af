"""A bar on standard error while images are worked on; nothing where that is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many of how many images are done, how fast, and for how long it will go on.

    Args:
        title: What is being done.

    Yields:
        To be called with the number of images that are done, and of all.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if (
        not console.is_terminal
    ):  # rich before 14 prints an empty line there, even when it is disabled
        yield lambda *_: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, rate="")

        def on_image(done: int, count: int) -> None:
            speed = bar.tasks[task].speed  # None until there are two readings
            rate = f"{speed:.1f}/s" if speed else ""
            bar.update(task, completed=done, total=count, rate=rate)

        yield on_image
