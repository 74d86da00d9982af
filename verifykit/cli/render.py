"""Results as text, as columns and as images.

Columns are plain text when they are piped, never cut to the width of a terminal. Images show boxes,
landmarks, names and scores. Pillow's own font has Latin letters only; for others the fonts of operating
systems are tried by name. Scripts whose letters join or stack (Arabic, Devanagari) are drawn letter by
letter unless Pillow has libraqm; letters that no font has become ``?``.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from verifykit.decision import DecisionRule
from verifykit.errors import InputError, shown
from verifykit.image import MAX_PIXELS, load_image
from verifykit.types import Decision, Detection, Identification


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 template``, ``2 templates``; ``plural`` if that is not with an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or f'{noun}s'}"


def share_text(share: float) -> str:
    """Return a rate in percent, with two significant digits: ``1.9 %``, ``0.0013 %``."""
    digits = 1 if share >= 0.01 else 2
    shown = f"{100 * share:.{digits}f}" if share == 0 or share >= 1e-3 else f"{100 * share:.2g}"
    if "e" in shown:
        shown = f"{float(shown):.10f}".rstrip("0")
    return f"{shown} %"


def interval_text(low: float, high: float) -> str:
    """Return the bounds of a rate in percent: ``[0.5, 1.9] %``."""
    return f"[{share_text(low)[:-2]}, {share_text(high)[:-2]}] %"


def _answer(decision: Decision) -> str:
    if decision.outcome == "review":
        return "review"
    return "match" if decision.match else "no match"


def decision_text(decision: Decision, question: str) -> str:
    """Return a decision as lines: the result for ``question``, the score, the threshold and its rate."""
    lines = [
        f"{_answer(decision)}: {question}",
        f"score      {decision.score:.4f}",
        f"threshold  {decision.threshold:.4f}",
        f"FMR        {rate_text(decision.fmr, decision.attack)}",
    ]
    if decision.score_fmr is not None:
        evidence = "" if decision.llr is None else f", log-likelihood ratio {decision.llr:+.1f}"
        lines.append(f"at score   FMR {decision.score_fmr:.2g}{evidence}")
    if decision.review_threshold is not None:
        lines.append(
            f"review     from {decision.review_threshold:.4f}, FMR "
            f"{rate_text(decision.review_fmr, decision.attack)}"
        )
    if decision.warnings:
        lines.append(f"warnings   {', '.join(decision.warnings)}")
    return "\n".join(lines)


def rate_text(fmr: float | None, attack: str | None) -> str:
    """Return the meaning of a false match rate; None is a bare threshold's."""
    if fmr is None:
        return "unknown: a bare threshold has no false match rate"
    others = "skilled forgeries" if attack == "skilled_forgery" else "pairs of different subjects"
    return f"{fmr:g} (1 in {round(1 / fmr):,} {others} would match)"


def identification_text(results: Sequence[Identification], rule: DecisionRule) -> str:
    """Return a block for each face with its candidates, best first, then the threshold."""
    blocks = []
    for number, result in enumerate(results, start=1):
        lines = [f"face {number} of {len(results)}"] if len(results) > 1 else []
        if not result.candidates:
            lines.append("no match: no subject in the gallery reaches the threshold")
        for rank, found in enumerate(result.candidates, start=1):
            lines.append(f"{rank}. {found.subject_id}  score {found.score:.4f}")
        if result.reasons:
            lines.append(f"warnings   {', '.join(result.reasons)}")
        blocks.append("\n".join(lines))
    blocks.append(f"threshold  {rule.threshold:.4f}")
    blocks.append(f"FMR        {rate_text(rule.fmr, rule.attack)}")
    if rule.fpir is not None:
        blocks.append(
            f"FPIR       {rule.fpir:.3g} (1 in {round(1 / rule.fpir):,} searches for an unknown person "
            f"would find a subject among {counted(rule.gallery_size or 0, 'subject')})"
        )
    return "\n".join(blocks)


_UNLIMITED = 100_000


def columns(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows in aligned columns, also for letters of two cells; markup in cells is not interpreted."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*titles, box=None, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=io.StringIO(), width=_UNLIMITED, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


Font: TypeAlias = ImageFont.FreeTypeFont

_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansBengali-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
    "msgothic.ttc",
    "malgun.ttf",
    "Nirmala.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
)
_MIN_TEXT_PX = 12
_UNASSIGNED = "\U0010ffff"


def font_for(text: str, size_px: int, width_px: float, tail: str = "") -> tuple[str, Font]:
    """Return the text as it can be drawn, with ``tail``, and a font for it.

    If it does not fit into ``width_px``, letters are reduced by up to a third, then the text is cut, but
    not the tail. Letters that no font has become ``?``.
    """
    text, name = _drawable(text)
    min_px = max(_MIN_TEXT_PX, size_px * 2 // 3)
    font = _load(name, size_px)
    while font.getlength(text + tail) > width_px and font.size > min_px:
        font = _load(name, max(min_px, int(font.size * 0.9)))
    if font.getlength(text + tail) > width_px:
        while text and font.getlength(f"{text}...{tail}") > width_px:
            text = text[:-1]
        text = f"{text.rstrip()}..."
    return text + tail, font


def _drawable(text: str) -> tuple[str, str]:
    """Return the text with ``?`` for what cannot be drawn, and the name of the font that draws most of it."""
    missing: dict[str, set[str]] = {}
    for name in ("", *_available()):
        missing[name] = {letter for letter in set(text) if not _has(name, letter)}
        if not missing[name]:
            return text, name
    best = min(missing, key=lambda name: len(missing[name]))
    return "".join("?" if letter in missing[best] else letter for letter in text), best


@functools.cache
def _available() -> tuple[str, ...]:
    found = []
    for name in _SYSTEM_FONTS:
        try:
            ImageFont.truetype(name, 16)
        except OSError:
            continue
        found.append(name)
    return tuple(found)


@functools.cache
def _load(name: str, size_px: int) -> Font:
    if name:
        return ImageFont.truetype(name, size_px)
    font = ImageFont.load_default(size_px)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("this Pillow was built without FreeType and cannot draw text of any size")
    return font


@functools.cache
def _has(name: str, letter: str) -> bool:
    """Return whether a font has a letter: it is drawn differently from one that no font can have."""
    font = _load(name, 16)
    drawn, unknown = font.getmask(letter), font.getmask(_UNASSIGNED)
    return letter.isspace() or (drawn.size, bytes(drawn)) != (unknown.size, bytes(unknown))


Color = tuple[int, int, int]

_MATCH: Color = (16, 122, 62)
_NO_MATCH: Color = (176, 32, 32)
_NEUTRAL: Color = (40, 40, 40)
_COLORS = {"match": _MATCH, "review": (150, 92, 0), "no match": _NO_MATCH}
_WHITE: Color = (255, 255, 255)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_PANEL_PX = 720
_MIN_SIDE_PX = 800
_QUALITY = 92


def require_writable(target: Path, *images: str) -> None:
    """Raise before any computation if an image cannot be written, or only with loss.

    Raises:
        InputError: Another suffix than those of JPEG, PNG and WebP, no such folder, or an input image.
    """
    if target.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"--save requires a name that ends in {', '.join(_SUFFIXES)}, got {shown(target.name)}"
        )
    if not target.parent.is_dir():
        raise InputError(
            f"--save: folder {shown(str(target.parent))} does not exist: create it first"
        )
    if target.exists() and any(Path(image).exists() and target.samefile(image) for image in images):
        raise InputError(f"--save: {shown(str(target))} is one of the images: choose another name")


def draw_comparison(
    target: Path, probe: str, reference: str, decision: Decision, *, max_pixels: int = MAX_PIXELS
) -> None:
    """Draw both images next to each other at one height, and the decision below them.

    Raises:
        ImageError: An image cannot be read.
        OSError: The result cannot be written.
    """
    color = _COLORS[_answer(decision)]
    found: Sequence[Detection | None] = decision.detections or (None, None)
    panels = []
    for image, detection in zip((probe, reference), found, strict=True):
        pixels = Image.fromarray(load_image(image, max_pixels=max_pixels))
        scale = _PANEL_PX / pixels.height
        panel = _scaled(pixels, scale)
        if detection is not None:
            _draw_face(panel, detection, scale, color)
        panels.append(panel)
    gap = 8
    width = sum(panel.width for panel in panels) + gap
    canvas = Image.new("RGB", (width, _PANEL_PX), _WHITE)
    canvas.paste(panels[0], (0, 0))
    canvas.paste(panels[1], (panels[0].width + gap, 0))
    _captioned(canvas, _caption(decision), color).save(target, quality=_QUALITY)


def draw_identification(
    target: Path, image: str, results: Sequence[Identification], *, max_pixels: int = MAX_PIXELS
) -> None:
    """Draw an image, each face with its best candidate's name and score, or ``unknown``.

    Raises:
        ImageError: The image cannot be read.
        OSError: The result cannot be written.
    """
    pixels = Image.fromarray(load_image(image, max_pixels=max_pixels))
    scale = max(1.0, _MIN_SIDE_PX / max(pixels.size))
    canvas = _scaled(pixels, scale)
    unplaced = []
    for result in results:
        best = result.candidates[0] if result.candidates else None
        name, score = (best.subject_id, f"  {best.score:.2f}") if best else ("unknown", "")
        if result.detection is None:
            unplaced.append(name + score)
            continue
        color = _MATCH if best else _NO_MATCH
        _draw_face(canvas, result.detection, scale, color)
        _draw_label(canvas, result.detection, scale, color, name, score)
    threshold = f"threshold {results[0].threshold:.2f}"
    _captioned(canvas, "   ".join([*unplaced, threshold]), _NEUTRAL).save(target, quality=_QUALITY)


def _caption(decision: Decision) -> str:
    meaning = f"   FMR {decision.fmr:g}" if decision.fmr is not None else ""
    return f"{_answer(decision)}   score {decision.score:.2f}   threshold {decision.threshold:.2f}{meaning}"


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _text_px(canvas: Image.Image) -> int:
    """Return a letter height that is readable when the whole image is viewed."""
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
    """Draw white text on the color, above the box, moved so that all of it is inside the image."""
    draw = ImageDraw.Draw(canvas)
    left, top, box_width, _ = (value * scale for value in detection.box_px)
    max_width = min(canvas.width, max(1.5 * box_width, 0.3 * canvas.width))
    text, font = font_for(name, _text_px(canvas), max_width, score)
    width, height = _measure(draw, text, font)
    pad = max(3, height // 6)
    left = min(max(0.0, left), max(0.0, canvas.width - width - 2 * pad))
    top = max(0.0, top - height - 2 * pad)
    draw.rectangle((left, top, left + width + 2 * pad, top + height + 2 * pad), fill=color)
    draw.text((left + pad, top + pad), text, fill=_WHITE, font=font, anchor="la")


def _measure(draw: ImageDraw.ImageDraw, text: str, font: Font) -> tuple[int, int]:
    """Return the width of the text, and the height of any line of this font, including descenders."""
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
