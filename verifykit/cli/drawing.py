"""Pictures of results: boxes, landmarks, names and scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from verifykit.cli.lettering import Font, font_for
from verifykit.errors import InputError
from verifykit.image import load_image
from verifykit.types import Decision, Detection, Identification

__all__ = ["draw_comparison", "draw_identification", "require_writable"]

Color = tuple[int, int, int]

_MATCH: Color = (16, 122, 62)
_NO_MATCH: Color = (176, 32, 32)
_NEUTRAL: Color = (40, 40, 40)
_WHITE: Color = (255, 255, 255)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_PANEL_PX = 720
_LEAST_SIDE_PX = 800
_QUALITY = 92


def require_writable(target: Path, *images: str) -> None:
    """Refuse a picture that cannot be written, or not without loss, before anything is computed.

    Args:
        target: The picture to write.
        *images: Paths of the images that are read, which are not written over.

    Raises:
        InputError: Another suffix than those of JPEG, PNG and WebP, no such folder, or one of the images.
    """
    if target.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"--save takes a name that ends in {', '.join(_SUFFIXES)}, got {target.name!r}"
        )
    if not target.parent.is_dir():
        raise InputError(f"--save: there is no folder {str(target.parent)!r}")
    if target.exists() and any(Path(image).exists() and target.samefile(image) for image in images):
        raise InputError(f"--save: {str(target)!r} is one of the images: give another name")


def draw_comparison(target: Path, probe: str, reference: str, decision: Decision) -> None:
    """Both images side by side at one height, and the decision below them.

    Args:
        target: The picture to write.
        probe: Path of the first image.
        reference: Path of the second.
        decision: With the detections of both, or with none.

    Raises:
        ImageError: An image cannot be read.
        OSError: The picture cannot be written.
    """
    color = _MATCH if decision else _NO_MATCH
    found: Sequence[Detection | None] = decision.detections or (None, None)
    panels = []
    for image, detection in zip((probe, reference), found, strict=True):
        picture = Image.fromarray(load_image(image))
        scale = _PANEL_PX / picture.height
        panel = _scaled(picture, scale)
        if detection is not None:
            _draw_face(panel, detection, scale, color)
        panels.append(panel)
    gap = 8
    width = sum(panel.width for panel in panels) + gap
    canvas = Image.new("RGB", (width, _PANEL_PX), _WHITE)
    canvas.paste(panels[0], (0, 0))
    canvas.paste(panels[1], (panels[0].width + gap, 0))
    _captioned(canvas, _caption(decision), color).save(target, quality=_QUALITY)


def draw_identification(target: Path, image: str, answers: Sequence[Identification]) -> None:
    """The image, each face with its best candidate's name and score, or ``unknown``.

    Args:
        target: The picture to write.
        image: Path of the image.
        answers: One a face.

    Raises:
        ImageError: The image cannot be read.
        OSError: The picture cannot be written.
    """
    picture = Image.fromarray(load_image(image))
    scale = max(1.0, _LEAST_SIDE_PX / max(picture.size))
    canvas = _scaled(picture, scale)
    unplaced = []
    for answer in answers:
        best = answer.candidates[0] if answer.candidates else None
        name, score = (best.subject_id, f"  {best.score:.2f}") if best else ("unknown", "")
        if answer.detection is None:
            unplaced.append(name + score)
            continue
        color = _MATCH if best else _NO_MATCH
        _draw_face(canvas, answer.detection, scale, color)
        _draw_label(canvas, answer.detection, scale, color, name, score)
    threshold = f"threshold {answers[0].threshold:.2f}"
    _captioned(canvas, "   ".join([*unplaced, threshold]), _NEUTRAL).save(target, quality=_QUALITY)


def _caption(decision: Decision) -> str:
    meaning = f"   FMR {decision.fmr:g}" if decision.fmr is not None else ""
    answer = "match" if decision else "no match"
    return f"{answer}   score {decision.score:.2f}   threshold {decision.threshold:.2f}{meaning}"


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _text_px(canvas: Image.Image) -> int:
    """A letter height that stays readable when the whole picture is looked at."""
    return max(16, round(max(canvas.size) / 36))


def _draw_face(canvas: Image.Image, detection: Detection, scale: float, color: Color) -> None:
    draw = ImageDraw.Draw(canvas)
    line_px = max(2, round(max(canvas.size) / 250))
    left, top, width, height = (value * scale for value in detection.box_px)
    draw.rectangle((left, top, left + width, top + height), outline=color, width=line_px)
    radius = line_px * 1.5
    for x, y in ((x * scale, y * scale) for x, y in detection.landmarks_px):
        spot = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(spot, fill=_WHITE, outline=color, width=max(1, line_px // 2))


def _draw_label(
    canvas: Image.Image, detection: Detection, scale: float, color: Color, name: str, score: str
) -> None:
    """White on the colour, above the box, moved so that all of it lies in the picture."""
    draw = ImageDraw.Draw(canvas)
    left, top, box_width, _ = (value * scale for value in detection.box_px)
    room = min(canvas.width, max(1.5 * box_width, 0.3 * canvas.width))
    text, font = font_for(name, _text_px(canvas), room, score)
    width, height = _measure(draw, text, font)
    pad = max(3, height // 6)
    left = min(max(0.0, left), max(0.0, canvas.width - width - 2 * pad))
    top = max(0.0, top - height - 2 * pad)
    draw.rectangle((left, top, left + width + 2 * pad, top + height + 2 * pad), fill=color)
    draw.text((left + pad, top + pad), text, fill=_WHITE, font=font, anchor="la")


def _measure(draw: ImageDraw.ImageDraw, text: str, font: Font) -> tuple[int, int]:
    """Width of the text, and height of any line of this font: letters hang below the base line."""
    ascent, descent = font.getmetrics()
    return round(draw.textlength(text, font=font)), ascent + descent


def _captioned(canvas: Image.Image, caption: str, color: Color) -> Image.Image:
    text, font = font_for(caption, _text_px(canvas), canvas.width - 12)
    width, height = _measure(ImageDraw.Draw(canvas), text, font)
    bar = height + height // 2
    whole = Image.new("RGB", (canvas.width, canvas.height + bar), color)
    whole.paste(canvas, (0, 0))
    at = ((canvas.width - width) / 2, canvas.height + height // 4)
    ImageDraw.Draw(whole).text(at, text, fill=_WHITE, font=font, anchor="la")
    return whole
