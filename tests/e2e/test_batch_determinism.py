"""The same bytes with any number of workers and after any number of kills, and memory that stays flat."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

import verifykit as vk
from tests.helpers.batch_files import (
    encode,
    finish,
    lines,
    many,
    small_verifier,
    start,
    write_crowd,
)
from tests.helpers.model_specs import plain_spec
from verifykit.batch import LocalEngine, SourceImage, identify_batch
from verifykit.batch import engine as pipeline
from verifykit.batch.engine import embed_block, search_block
from verifykit.batch.tables import Question, Row
from verifykit.decision import DecisionRule
from verifykit.encoder import Encoder
from verifykit.errors import ModelContractError
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.gallery import take_snapshot
from verifykit.types import Embeddings, Image, ImageLike, Sample

ENGINE_THREADS = ("verifykit-batch", "verifykit-search")


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crowd(tmp_path_factory.mktemp("crowd"), 320)


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_workers_do_not_show_in_the_output(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    folder = many(tmp_path / "pictures", 150)
    written = set()
    for workers in (1, 2, 8):
        out = tmp_path / f"{workers}-{name}"
        summary = identify_batch(small_verifier(), folder, out, workers=workers)
        assert (summary.images, summary.errors) == (150, {"unreadable": 15})
        written.add(out.read_bytes())
    assert len(written) == 1


def test_real_faces_with_one_worker_and_with_eight(
    encoder: Encoder, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    names = ["person_a_2", "person_b_2", "impostor_1", "biden", "obama2", "person_a_1"] * 4
    with Picture.open(portraits["person_b_1"]) as portrait:
        portrait.crop((0, 0, 120, 120)).save(tmp_path / "wall.png")
    listed = [str(portraits[name]) for name in names] + ["wall.png"]
    (tmp_path / "list.txt").write_text("\n".join(listed))
    verifier = vk.Verifier(encoder)
    verifier.enroll("a", portraits["person_a_1"])
    outs = [tmp_path / "1.jsonl", tmp_path / "8.jsonl"]
    for out, workers in zip(outs, (1, 8), strict=True):
        identify_batch(verifier, tmp_path / "list.txt", out, workers=workers, quality="warn")
    assert outs[0].read_bytes() == outs[1].read_bytes()
    *answers, wall = lines(outs[0])[1:]
    assert (wall["decision"], wall["error"]) == ("no_face", "no_face")
    for name, line in zip(names, answers, strict=True):
        found = verifier.identify(portraits[name], multi_face="all", quality="warn")
        assert [c["subject_id"] for f in line["faces"] for c in f["candidates"]] == [
            candidate.subject_id for candidate in found
        ]


def test_the_pipeline_and_a_plain_loop_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, verifier = many(tmp_path / "pictures", 100), small_verifier()
    question = Question(DecisionRule(0.9, None, None), SampleOptions("all"), 5, 2, "m", "c")
    gallery = take_snapshot(verifier.gallery, 4, "max")

    def plainly(block: Sequence[SourceImage]) -> list[Row]:
        return search_block(
            gallery, question, embed_block(verifier.encoder, question.sample, block)
        )

    images = [SourceImage(path.name, path) for path in sorted(folder.iterdir())]
    blocks = [images[at : at + 16] for at in range(0, 100, 16)]
    found = list(LocalEngine(verifier.encoder, 4).answers(question, gallery, blocks))
    assert found == [plainly(block) for block in blocks]
    rows = [row for block in found for row in block]
    monkeypatch.setattr(pipeline, "_LARGE_GALLERY", 1)
    together = list(LocalEngine(verifier.encoder, 4).answers(question, gallery, blocks))
    assert len(together) < len(found)
    assert [row for block in together for row in block] == rows
    for image, row in zip(images, rows, strict=True):
        assert plainly([image]) == [row]


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("out.jsonl", 4),
        pytest.param("out.jsonl", 10, marks=pytest.mark.slow),
        pytest.param("out.parquet", 10, marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_moments_leave_no_trace(
    crowd: Path, tmp_path: Path, name: str, kills: int
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    whole, out = tmp_path / f"whole-{name}", tmp_path / name
    assert finish(start(crowd, whole, "-w", "1")) == 3
    # Parquet is written at the end; until then the lines lie beside it.
    growing = out if name.endswith("jsonl") else tmp_path / f"{name}.journal"
    moments, kept = random.Random(3), []
    for number in range(kills):
        process = start(crowd, out, "-w", "8")
        # Further each time, and not at the end of a block only.
        wanted = 240 / kills * (number + moments.random())
        while process.poll() is None and _line_count(growing) < wanted:
            time.sleep(0.001)
        time.sleep(moments.uniform(0.0, 0.02))
        process.kill()
        assert finish(process) == -9
        kept.append(_line_count(growing))
    assert kept == sorted(kept)
    assert len(set(kept)) > kills / 2
    assert finish(start(crowd, out)) == 3
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.journal"))


def test_a_kill_while_the_table_is_written(crowd: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    assert finish(start(crowd, whole)) == 3
    process = start(crowd, out)
    while process.poll() is None and not (tmp_path / "out.csv.state.json").exists():
        time.sleep(0.0005)
    process.kill()
    finish(process)
    assert finish(start(crowd, out)) == 3
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "out.csv.journal").exists()


def _line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_slow_disk_holds_up_the_decoding(tmp_path: Path) -> None:
    taken: list[int] = []
    ahead = []

    def blocks() -> Iterator[list[SourceImage]]:
        for number in range(1000):
            taken.append(number)
            pixels = np.full((8, 8, 3), number % 251, np.uint8)
            yield [SourceImage(f"{number}-{i}", pixels) for i in range(16)]

    question = Question(DecisionRule(0.9, None, None), SampleOptions("all"), 5, 2, "m", "c")
    verifier = small_verifier()
    gallery = take_snapshot(verifier.gallery, 4, "max")
    engine = LocalEngine(verifier.encoder, 4)
    for seen, _ in enumerate(engine.answers(question, gallery, blocks()), start=1):
        time.sleep(0.02 if seen < 20 else 0.0)
        ahead.append(len(taken) - seen)
        if seen == 60:
            break
    assert max(ahead) <= 6
    assert not [t for t in threading.enumerate() if t.name.startswith(ENGINE_THREADS)]


def test_a_face_that_the_network_cannot_embed_is_a_bad_image(tmp_path: Path) -> None:
    def fails_on_some(crops: Sequence[Image]) -> Embeddings:
        if any(crop[0, 0, 0] % 5 == 0 for crop in crops):
            raise ModelContractError("a row that is zero or not finite")
        return encode(crops)

    folder, spec = many(tmp_path / "pictures", 40), plain_spec()
    sound = small_verifier()
    verifier = vk.Verifier(Encoder(spec, fails_on_some, SampleExtractor(spec.crop)), sound.gallery)
    out, wanted = tmp_path / "out.jsonl", tmp_path / "wanted.jsonl"
    summary = identify_batch(verifier, folder, out)
    identify_batch(sound, folder, wanted)
    assert summary.errors["no_embedding"] > 2
    for line, right in zip(lines(out), lines(wanted), strict=True):
        assert line == right or line["error"] == "no_embedding"


def test_what_was_not_foreseen_in_an_image_is_that_images_code(tmp_path: Path) -> None:
    class Careless(SampleExtractor):
        def samples(
            self, image: ImageLike, options: SampleOptions | None = None, **role: Any
        ) -> list[Sample]:
            if str(image).endswith("3.jpg"):
                raise ValueError("landmarks that span nothing")
            return super().samples(image, options, **role)

    spec = plain_spec()
    verifier = vk.Verifier(Encoder(spec, encode, Careless(spec.crop)))
    out = tmp_path / "out.jsonl"
    summary = identify_batch(verifier, many(tmp_path / "pictures", 40), out)
    assert summary.errors == {"failed": 4, "unreadable": 4}
    assert lines(out)[4]["message"] == "ValueError: landmarks that span nothing"


def test_a_failure_in_the_middle_ends_the_run_and_its_threads(tmp_path: Path) -> None:
    def fails(crops: Sequence[Image]) -> Embeddings:
        raise vk.ProviderError("out of memory")

    spec = plain_spec()
    verifier = vk.Verifier(Encoder(spec, fails, SampleExtractor(spec.crop)))
    with pytest.raises(vk.ProviderError, match="out of memory"):
        identify_batch(verifier, many(tmp_path / "pictures", 50), tmp_path / "out.jsonl")
    assert not [t for t in threading.enumerate() if t.name.startswith(ENGINE_THREADS)]
