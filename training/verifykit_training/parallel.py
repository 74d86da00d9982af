"""Work on many files in several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")

_CHUNK = 256


def in_threads(
    work: Callable[[Item], Found],
    items: Sequence[Item],
    *,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[Item, Found]]:
    """Yield each item with its result, in order; `progress` is called with the number that are done."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(items), _CHUNK):
            chunk = items[start : start + _CHUNK]
            yield from zip(chunk, pool.map(work, chunk), strict=True)
            if progress:
                progress(start + len(chunk))
