"""From images to embeddings: rows, reasons, digests, and what a cache keeps of an interrupted run."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from tests.helpers.privileges import allow_all_users, without_privileges
from tests.unit.evaluation.made import NO_FACE, ShadeEmbedder, draw
from verifykit.datasets import Dataset, LabelledImage
from verifykit.errors import InputError, ProviderError
from verifykit.evaluation import embedding
from verifykit.evaluation.embedding import (
    Embedded,
    EmbeddingCache,
    embed_images,
    failures,
    with_further_frames,
)
from verifykit.evaluation.results import Failure

CHECKOUT = Path(__file__).resolve().parents[3]


def _sha256(image: LabelledImage) -> str:
    return hashlib.sha256(image.path.read_bytes()).hexdigest()


def _image(path: Path) -> LabelledImage:
    return LabelledImage(path, path.name, "anna")


def test_rows_reasons_and_digests(tmp_path: Path) -> None:
    good, faceless, other = draw(tmp_path, [200, NO_FACE, 30])
    broken, gone, below = (_image(tmp_path / name) for name in ("x.png", "gone.png", "0.png/x.png"))
    broken.path.write_text("no image")
    folder = _image(tmp_path)
    images = [faceless, good, broken, gone, other, below, folder]
    calls: list[tuple[int, int]] = []
    found = embed_images(
        ShadeEmbedder(), images, cache=None, on_progress=lambda *seen: calls.append(seen)
    )
    assert found.rows.dtype == np.float32
    assert np.array_equal(found.rows, [ShadeEmbedder.vector(200), ShadeEmbedder.vector(30)])
    assert found.row_of.dtype == np.int64
    assert found.row_of.tolist() == [-1, 0, -1, -1, 1, -1, -1]
    assert found.reasons == {
        0: "no_face", 2: "unreadable", 3: "missing", 5: "missing", 6: "unreadable",
    }  # fmt: skip
    digests = [*map(_sha256, images[:3]), "missing", _sha256(other), "missing", "unreadable"]
    assert found.file_digests == tuple(digests)
    assert calls == [(number, 7) for number in range(8)]


def test_further_frames_are_counted_and_named_also_from_the_cache(tmp_path: Path) -> None:
    images = draw(tmp_path, [200, 30])
    with Picture.open(images[1].path) as first:
        first.save(images[1].path, "PNG", save_all=True, append_images=[first.convert("L")])
    data = Dataset(tmp_path, "images", tuple(images), None, left_out={"further_frames": 1})
    with EmbeddingCache(tmp_path / "cache.sqlite") as cache:
        for _ in range(2):
            found = embed_images(ShadeEmbedder(), images, cache=cache)
            assert found.further_frames == (1,)
            looked_at = with_further_frames(data, found)
            assert looked_at == with_further_frames(data)
            assert looked_at.left_out == {"further_frames": 2}
            assert looked_at.left_out_names == {"further_frames": [images[1].name]}


def test_no_image_gives_an_embedding(tmp_path: Path) -> None:
    for images in ([], [_image(tmp_path / "gone.png")]):
        found = embed_images(ShadeEmbedder(), images, cache=None)
        assert (found.rows.shape, found.rows.dtype) == ((0, 0), np.float32)
        assert found.row_of.tolist() == [-1] * len(images)


@pytest.mark.timeout(20)
def test_what_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (large,) = draw(tmp_path, [200])
    pipe, closed = tmp_path / "pipe.png", tmp_path / "closed.png"
    os.mkfifo(pipe)
    closed.touch(mode=0)
    allow_all_users(tmp_path)
    monkeypatch.setattr(embedding, "MAX_BYTES", large.path.stat().st_size - 1)
    with without_privileges():
        found = embed_images(ShadeEmbedder(), [_image(pipe), large, _image(closed)], cache=None)
    assert found.file_digests == ("unreadable",) * 3
    assert set(found.reasons.values()) == {"unreadable"}


def test_equal_files_are_embedded_once_and_have_a_row_each(tmp_path: Path) -> None:
    images = draw(tmp_path, [200, NO_FACE, 200, NO_FACE])
    embedder = ShadeEmbedder()
    found = embed_images(embedder, images, cache=None)
    assert embedder.calls == 2
    assert found.row_of.tolist() == [0, -1, 1, -1]
    assert np.array_equal(found.rows[0], found.rows[1])


def test_failures_are_counted_by_reason() -> None:
    images = [LabelledImage(Path(f"{n}"), f"name {n}", "anna") for n in range(12)]
    reasons = dict.fromkeys(range(11, 3, -1), "no_face") | {0: "missing", 1: "blank"}
    embedded = Embedded(
        np.zeros((2, 2), np.float32), np.full(12, -1), reasons, tuple("x" for _ in images)
    )
    assert failures(images, embedded) == (
        Failure("no_face", 8, tuple(f"name {n}" for n in range(4, 9))),
        Failure("blank", 1, ("name 1",)),
        Failure("missing", 1, ("name 0",)),
    )
    nothing = Embedded(np.zeros((0, 0), np.float32), np.full(12, -1), {}, ())
    assert failures(images, nothing) == ()


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    images = draw(tmp_path, [200, NO_FACE, 30])
    (tmp_path / "1.png").write_text("no image")
    images.append(_image(tmp_path / "later.png"))
    first, second = ShadeEmbedder(), ShadeEmbedder()
    with EmbeddingCache(tmp_path / "c.sqlite") as cache:
        one = embed_images(first, images, cache=cache)
    (tmp_path / "later.png").write_bytes((tmp_path / "0.png").read_bytes())
    with EmbeddingCache(tmp_path / "c.sqlite") as cache:
        other = embed_images(second, images, cache=cache)
        assert first.calls == 3
        assert second.calls == 0
        assert other.rows.dtype == np.float32
        assert np.array_equal(other.rows[:2], one.rows)
        assert one.reasons == {1: "unreadable", 3: "missing"}
        # A missing file is looked for again, and is there now.
        assert other.reasons == {1: "unreadable"}
        assert np.array_equal(other.rows[2], one.rows[0])
        draw(tmp_path, [200, 31, 30])
        third = ShadeEmbedder()
        assert embed_images(third, images, cache=cache).reasons == {}
        assert third.calls == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ProviderError])
def test_what_was_computed_survives_what_ends_the_run(
    tmp_path: Path, error: type[BaseException]
) -> None:
    images = draw(tmp_path, range(1, 30))

    class Interrupted(ShadeEmbedder):
        def embed(self, image: bytes) -> np.ndarray:
            if self.calls == 17:
                raise error
            return super().embed(image)

    with EmbeddingCache(tmp_path / "c.sqlite") as cache:
        with pytest.raises(error):
            embed_images(Interrupted(), images, cache=cache)
        again = ShadeEmbedder()
        found = embed_images(again, images, cache=cache)
    assert again.calls == 29 - 17
    assert np.array_equal(found.rows, [ShadeEmbedder.vector(shade) for shade in range(1, 30)])


@pytest.mark.parametrize(("seconds", "saved"), [("1000.0", 200), ("0.0", 229)])
def test_a_kill_costs_at_most_what_the_last_commit_did_not_have(
    tmp_path: Path, seconds: str, saved: int
) -> None:
    images = draw(tmp_path, range(1, 256))
    code = f"""
import os, signal
from pathlib import Path
from tests.unit.evaluation.made import ShadeEmbedder, draw
from verifykit.evaluation import embedding
from verifykit.evaluation.embedding import EmbeddingCache

class Killed(ShadeEmbedder):
    def embed(self, image):
        if self.calls == 229:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().embed(image)

embedding._SAVED_S = {seconds}
folder = Path({str(tmp_path)!r})
cache = EmbeddingCache(folder / "c.sqlite")
embedding.embed_images(Killed(), draw(folder, range(1, 256)), cache=cache)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False)
    assert run.returncode == -signal.SIGKILL
    with EmbeddingCache(tmp_path / "c.sqlite") as cache:
        assert len(cache.get("shade", map(_sha256, images))) == saved


def test_a_cache_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    images = draw(tmp_path, [200])
    cache = EmbeddingCache(tmp_path / "c.sqlite")
    cache.close()
    with pytest.raises(InputError, match=r"c\.sqlite.* closed"):
        embed_images(ShadeEmbedder(), images, cache=cache)
