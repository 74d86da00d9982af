"""Progress of work in stages."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training.dataset import read_records
from verifykit_training.evaluation import embed_records
from verifykit_training.learner import encoder_of
from verifykit_training.stages import Bars, shown_stages


def test_cropping_and_embedding_are_stages(tmp_path: Path) -> None:
    records = read_records(draw_folder(tmp_path / "data", 4, 3))
    config = small_config(run={"batch_size": 5})
    encoder = encoder_of(config).eval()
    seen: list[tuple[str, int, int]] = []

    def stages(*now: int | str) -> None:
        seen.append(now)  # type: ignore[arg-type]

    for cropped in ([("cropping", 12, 12)], []):  # crops are made once
        embed_records(encoder, config, records, tmp_path / "cache", stages=stages)
        assert seen == [*cropped, *(("embedding", done, 12) for done in (5, 10, 12))]
        seen.clear()


def test_bars_show_each_stage_with_its_total_and_go() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with Progress(console=console, auto_refresh=False) as progress:
        bars = Bars(progress)
        bars("cropping", 2, 4)
        bars("embedding", 1, 3)
        bars("cropping", 4, 4)
        found = [(task.description, task.completed, task.total) for task in progress.tasks]
        assert found == [("cropping", 4, 4), ("embedding", 1, 3)]
        bars.clear()
        assert progress.tasks == []


def test_nothing_is_printed_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    for quiet in (False, True):
        with shown_stages(quiet=quiet) as stages:
            stages("cropping", 1, 2)
    assert screen.getvalue() == ""
