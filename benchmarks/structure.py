"""How large the code base is, and how many of its files one operation enters.

``python -m benchmarks.structure`` prints, for the checkout in which it is stored: files and lines of the
product, names in ``__all__``, the share of the imports, functions of more than 60 lines; then, by
``sys.setprofile`` after a call that is not counted, the files of the package ``verifykit`` that an operation
enters, its calls, the moves from a file to another, and the depth.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx
from rich.console import Console
from rich.table import Table

import verifykit as vk
from benchmarks.source_sizes import LARGE, Sizes, sizes, sources
from demo.portraits import portraits
from verifykit.server import ServerSettings, create_app

CHECKOUT = Path(__file__).resolve().parents[1]
IMAGES = ("person_a_1", "person_a_2")
WARM_UP = 4  # the first requests import, fill caches and start threads


@dataclass
class Counts:
    """Files that were entered, calls, moves from a file to another, and the deepest call."""

    files: set[str] = field(default_factory=set)
    calls: int = 0
    moves: int = 0
    depth: int = 0

    def row(self) -> tuple[str, ...]:
        """Return the numbers as text."""
        return str(len(self.files)), str(self.calls), str(self.moves), str(self.depth)


class Recorder:
    """Counts calls of functions whose files are in a folder, in every thread that it sees.

    Code outside the folder does not count: a move is from the file of the nearest caller in the folder to
    another file, or back with the return.
    """

    def __init__(self, folder: Path) -> None:
        """Count nothing before :meth:`recording`."""
        self._prefix = f"{folder.resolve()}/"
        self._inside: dict[str, str | None] = {}
        self._local = threading.local()
        self._counts: dict[int, Counts] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watch this thread and those that start from now on."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def recording(self) -> Iterator[dict[int, Counts]]:
        """Count what is called within, by the identifier of the thread."""
        self._counts = {}
        try:
            yield self._counts
        finally:
            self._counts = None

    def _file(self, frame: FrameType) -> str | None:
        name = frame.f_code.co_filename
        if name not in self._inside:
            path = str(Path(name).resolve())
            inside = path.removeprefix(self._prefix)
            self._inside[name] = None if inside == path or "<" in name else inside
        return self._inside[name]

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        counts = self._counts
        if counts is None or event not in ("call", "return"):
            return
        file = self._file(frame)
        if file is None:
            return
        stack: list[str] = self._local.__dict__.setdefault("stack", [])
        mine = counts.setdefault(threading.get_ident(), Counts())
        if event == "call":
            mine.files.add(file)
            mine.calls += 1
            mine.moves += bool(stack) and stack[-1] != file
            stack.append(file)
            mine.depth = max(mine.depth, len(stack))
        elif stack:
            stack.pop()
            mine.moves += bool(stack) and stack[-1] != file


def total(counts: Iterable[Counts]) -> Counts:
    """Return the counts of several threads as one."""
    found = Counts()
    for each in counts:
        found.files |= each.files
        found.calls += each.calls
        found.moves += each.moves
        found.depth = max(found.depth, each.depth)
    return found


def record(recorder: Recorder, operation: Callable[[], object]) -> Counts:
    """Return what the second of two runs does: the first imports and fills caches."""
    with recorder.installed():
        operation()
        with recorder.recording() as counts:
            operation()
    return total(counts.values())


def library(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the operations of the library on a gallery in a file, with their names."""
    enrolled, probe = (portraits()[name] for name in IMAGES)
    verifier = vk.Verifier("face", gallery=folder / "library.db")
    verifier.enroll("alice", enrolled)
    template, gallery = verifier.extract(enrolled), verifier.gallery
    if not isinstance(gallery, vk.SqliteGallery):
        raise TypeError(f"a gallery in a file is measured, got {gallery}")
    number = itertools.count()
    yield "Verifier.verify", lambda: verifier.verify("alice", probe)
    yield "Verifier.identify", lambda: verifier.identify(probe)
    yield "Verifier.enroll", lambda: verifier.enroll(f"subject-{next(number)}", enrolled)
    yield "gallery.add", lambda: gallery.add(f"subject-{next(number)}", [template])
    gallery.close()


async def served(recorder: Recorder, folder: Path) -> dict[int, Counts]:
    """Return what a verification over HTTP does, from the request to the response, by thread."""
    enrolled, probe = (portraits()[name].read_bytes() for name in IMAGES)
    app = create_app(ServerSettings(str(folder / "served.db"), with_signatures=False))
    transport = httpx.ASGITransport(app)
    subject = "/v1/subjects/alice"
    with recorder.installed():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):

            async def verify() -> None:
                answer = await client.post(f"{subject}/verify", files={"image": probe})
                answer.raise_for_status()

            answer = await client.put(subject, files={"image": enrolled})
            answer.raise_for_status()
            for _ in range(WARM_UP):
                await verify()
            with recorder.recording() as counts:
                await verify()
    return counts


def size_table(found: Sizes) -> Table:
    """Return the sizes as a table."""
    table = Table("product", "", show_header=False)
    table.add_row("files", f"{found.files:,}")
    table.add_row("lines", f"{found.lines:,}")
    table.add_row("names in __all__", f"{found.exported:,}")
    table.add_row("lines of imports", f"{found.import_lines:,} ({found.import_share:.1%})")
    large = sorted((each for each in found.functions if each.lines > LARGE), key=lambda f: -f.lines)
    table.add_row(f"functions over {LARGE} lines", str(len(large)))
    for each in large:
        table.add_row(f"  {each.file}: {each.name}", str(each.lines))
    return table


def main() -> None:
    """Count and print."""
    argparse.ArgumentParser(prog="benchmarks.structure", description=__doc__).parse_args()
    console = Console(highlight=False)
    console.print(size_table(sizes(sources(CHECKOUT), CHECKOUT)))
    recorder = Recorder(CHECKOUT / "verifykit")
    table = Table("operation", "files", "calls", "moves", "depth")
    with tempfile.TemporaryDirectory() as folder:
        for name, operation in library(Path(folder)):
            table.add_row(name, *record(recorder, operation).row())
        counts = asyncio.run(served(recorder, Path(folder)))
    table.add_row("verify over HTTP", *total(counts.values()).row())
    main_thread = threading.get_ident()
    workers = [each for thread, each in counts.items() if thread != main_thread]
    table.add_row("  of it in worker threads", *total(workers).row())
    console.print(table)


if __name__ == "__main__":
    main()
