"""The images that ``--save`` draws, by their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from verifykit.cli import render as drawing
from verifykit.errors import InputError
from verifykit.image import load_image
from verifykit.types import Candidate, Decision, Detection, Identification
from verifykit.verifier import Verifier

GREEN, RED = drawing._MATCH, drawing._NO_MATCH


def opened(path: Path) -> PilImage.Image:
    with PilImage.open(path) as drawn:
        return drawn.convert("RGB")


def box_of(drawn: PilImage.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a color, within the accuracy of JPEG."""
    near = np.abs(np.asarray(drawn, dtype=int) - color).max(axis=2) < 12
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def found(*names: str, threshold: float = 0.4) -> list[Identification]:
    detections = [
        Detection(
            (100.0 + 300 * i, 120.0, 80.0, 100.0),
            tuple((120.0 + 300 * i + 8 * k, 160.0 + 8 * k) for k in range(5)),
            0.9,
        )
        for i in range(len(names))
    ]
    return [
        Identification(
            detection,
            (),
            (Candidate(name, 0.75, threshold, detection=detection),) if name else (),
            threshold,
            1e-4,
        )
        for name, detection in zip(names, detections, strict=True)
    ]


@pytest.fixture
def black(tmp_path: Path) -> Path:
    path = tmp_path / "black.png"
    PilImage.new("RGB", (1000, 500)).save(path)
    return path


def test_a_box_a_label_and_landmarks_where_the_face_is(black: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    drawing.draw_identification(target, str(black), found("ada"))
    drawn = opened(target)
    left, top, right, bottom = box_of(drawn, GREEN)
    assert (left, bottom) == (100, 220)
    assert right >= 180
    assert 60 < top < 120  # the label is above the box
    for x, y in found("ada")[0].detection.landmarks_px:  # type: ignore[union-attr]
        assert drawn.getpixel((round(x), round(y))) == (255, 255, 255)


def test_an_unknown_face_is_red_and_a_known_one_green(black: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    drawing.draw_identification(target, str(black), found("ada", ""))
    drawn = opened(target)
    assert box_of(drawn, GREEN)[2] < 400 <= box_of(drawn, RED)[0]


@pytest.mark.parametrize("size", [(60, 40), (320, 240), (2400, 1800)])
def test_letters_are_readable_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    image, target = tmp_path / "in.png", tmp_path / "out.png"
    PilImage.new("RGB", size).save(image)
    width, height = size
    face = Detection((width / 4, height / 2, width / 4, height / 4), ((1.0, 1.0),) * 5, 0.9)
    answer = Identification(face, (), (Candidate("ada", 0.75, 0.4),), 0.4, None)
    drawing.draw_identification(target, str(image), [answer])
    drawn = opened(target)
    assert max(drawn.size) >= 800
    left, top, right, bottom = box_of(drawn, GREEN)
    assert 0 <= left < right < drawn.width
    box_height = drawn.width / size[0] * height / 4
    assert (bottom - top) - box_height > max(drawn.size) / 40


def test_a_long_name_keeps_its_score_and_stays_in_the_image(black: Path, tmp_path: Path) -> None:
    text, font = drawing.font_for("Maximilian " * 20, 28, 300, "  0.75")
    assert text.startswith("Maximilian")
    assert text.endswith("...  0.75")
    assert font.getlength(text) <= 300
    target = tmp_path / "out.png"
    drawing.draw_identification(target, str(black), found("", "", "Maximilian " * 20))
    assert box_of(opened(target), GREEN)[2] < 1000


def test_every_letter_is_drawn_or_is_a_question_mark() -> None:
    for name in ("Zoë Łukasiewicz", "Ελένη", "李雷", "x\U0010ffff"):
        text, font = drawing.font_for(name, 24, 10_000)
        assert len(text) == len(name)
        unknown = bytes(font.getmask("\U0010ffff"))
        assert all(c.isspace() or bytes(font.getmask(c)) != unknown for c in text)
        changed = [(a, b) for a, b in zip(name, text, strict=True) if a != b]
        assert all(b == "?" for _, b in changed)
    assert drawing.font_for("Zoë", 24, 10_000)[0] == "Zoë"
    assert drawing.font_for("x\U0010ffff", 24, 10_000)[0] == "x?"


def test_a_comparison_of_real_portraits(
    face_model: Path, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    verifier = Verifier(face_model, threads=2)
    one, two, other = (portraits[n] for n in ("person_a_1", "person_a_2", "impostor_1"))
    for reference, color, name in ((two, GREEN, "yes.png"), (other, RED, "no.jpg")):
        decision = verifier.compare(one, reference)
        target = tmp_path / name
        drawing.draw_comparison(target, str(one), str(reference), decision)
        drawn = opened(target)
        left_height, left_width = load_image(one).shape[:2]
        scale = 720 / left_height
        panel = drawn.crop((0, 0, round(left_width * scale), 720))
        left, top, width, height = (v * scale for v in decision.detections[0].box_px)
        expected = (left, top, left + width, top + height)
        assert box_of(panel, color) == pytest.approx(expected, abs=4)
        assert drawn.height > 720  # the caption
        assert np.abs(np.subtract(drawn.getpixel((3, drawn.height - 3)), color)).max() < 12


def test_a_modality_without_boxes_is_drawn_too(black: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.webp"
    drawing.draw_comparison(target, str(black), str(black), Decision(True, 0.5, 0.4, None))
    assert opened(target).width == 2 * 1440 + 8
    answer = Identification(None, (), (Candidate("ada", 0.75, 0.4),), 0.4, None)
    drawing.draw_identification(target, str(black), [answer])
    assert opened(target).width == 1000


def test_a_decision_for_review_is_neither_green_nor_red(black: Path, tmp_path: Path) -> None:
    drawn = {}
    for outcome in ("accept", "review", "refuse"):
        target = tmp_path / f"{outcome}.png"
        decision = Decision(outcome == "accept", 0.5, 0.5, 1e-4, outcome=outcome)
        drawing.draw_comparison(target, str(black), str(black), decision)
        drawn[outcome] = opened(target)
    colors = {name: image.getpixel((3, image.height - 3)) for name, image in drawn.items()}
    assert colors["accept"] == GREEN
    assert colors["refuse"] == RED
    assert colors["review"] not in (GREEN, RED)
    bars = {name: np.asarray(i)[720:] != colors[name] for name, i in drawn.items()}
    assert not np.array_equal(bars["review"], bars["refuse"])  # another word


def test_a_name_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    drawing.require_writable(tmp_path / "a.JPG")
    for target in (tmp_path / "a.pdf", tmp_path / "a", tmp_path / "no" / "a.png"):
        with pytest.raises(InputError, match="--save"):
            drawing.require_writable(target)


def test_the_images_are_not_drawn_over(black: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to(black)
    for target in (black, link):
        with pytest.raises(InputError, match="is one of the images"):
            drawing.require_writable(target, "absent.png", str(black))
    drawing.require_writable(black, "absent.png")
