"""One limit of pixels, height x width, at every entrance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image as PilImage
from typer.testing import CliRunner

import verifykit as vk
from tests.helpers import fake_encoder
from verifykit.cli.app import app
from verifykit.encoder import Encoder
from verifykit.evaluation import ModelEmbedder
from verifykit.image import MAX_PIXELS


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A photograph of 30 x 40 pixels of one colour."""
    path = tmp_path / "flat.jpg"
    PilImage.new("RGB", (40, 30), (90, 60, 30)).save(path)
    return path


def test_a_verifier_and_an_encoder_have_one_limit(flat: Path) -> None:
    encoder = fake_encoder.encoder()
    assert encoder.extractor.max_pixels == MAX_PIXELS
    exact, small = (vk.Verifier(encoder, max_pixels=pixels) for pixels in (1200, 1199))
    assert exact.compare(flat, flat).match
    for verb in (
        lambda: small.compare(flat, flat),
        lambda: small.extract(flat),
        lambda: small.extract(vk.load_image(flat)),
        lambda: small.extract(PilImage.new("RGB", (40, 30))),
        lambda: small.enroll("a", flat),
        lambda: small.identify(flat),
    ):
        with pytest.raises(vk.ImageError, match=r"30 x 40 pixels \(height x width\)"):
            verb()
    assert vk.Verifier(exact.encoder).encoder.extractor.max_pixels == 1200  # the encoder's
    assert vk.Verifier(encoder).compare(flat, flat).match  # which did not change


@pytest.mark.parametrize("pixels", [0, -1, 1.5, True, "many"])
def test_limits_that_are_none(pixels: int) -> None:
    with pytest.raises(vk.InputError, match="max_pixels must be an integer of at least 1"):
        vk.Verifier(fake_encoder.encoder(), max_pixels=pixels)


def test_an_evaluation_reads_with_the_limit_and_caches_by_it(flat: Path) -> None:
    encoder = fake_encoder.encoder()
    ModelEmbedder(encoder, "fake").crop(flat)
    small = ModelEmbedder(encoder.limited(1199), "fake")
    with pytest.raises(vk.ImageError, match="max_pixels"):
        small.crop(flat)
    assert small.cache_key != ModelEmbedder(encoder, "fake").cache_key
    same = ModelEmbedder(encoder.limited(MAX_PIXELS), "fake")
    assert same.cache_key == ModelEmbedder(encoder, "fake").cache_key


def test_commands_have_the_limit(
    face_model: Path,
    portraits: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Encoder.open(face_model, threads=2)
    monkeypatch.setattr(Encoder, "open", lambda *_, **__: encoder)
    one, other = str(portraits["person_a_1"]), str(portraits["person_a_2"])
    with PilImage.open(one) as opened:
        pixels = opened.width * opened.height
    gallery, rows = str(tmp_path / "a.db"), tmp_path / "rows.jsonl"
    vk.Verifier(encoder, gallery).enroll("a", [one])
    runner = CliRunner()
    for arguments in (
        ["compare", one, one],
        ["enroll", "b", one, "--gallery", gallery],
        ["verify", "a", one, "--gallery", gallery],
        ["identify", one, "--gallery", gallery],
    ):
        for limit, status in ((pixels - 1, 2), (pixels, 0)):
            result = runner.invoke(app, [*arguments, "--max-pixels", str(limit)])
            assert result.exit_code == status, result.output
            assert ("raise max_pixels (--max-pixels)" in result.stderr) is (status == 2)
    source = tmp_path / "list.txt"
    source.write_text(f"{one}\n{other}\n")
    batch = ["identify-batch", str(source), "--gallery", gallery, "--out", str(rows)]
    result = runner.invoke(app, [*batch, "--max-pixels", "10"])
    assert "not usable: unreadable" in result.stdout
    people = tmp_path / "people"
    people.mkdir()
    (people / "a.jpg").write_bytes(portraits["person_a_1"].read_bytes())
    groups = ["cluster", str(people), "--out", str(tmp_path / "groups.csv"), "--json"]
    result = runner.invoke(app, [*groups, "--max-pixels", "10"])
    assert '"errors": {"unreadable": 1}' in result.stdout
