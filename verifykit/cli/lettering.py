"""A font that has the letters of a text.

Pillow's own font has Latin letters only. For others the fonts that operating systems bring are tried by
name. Scripts whose letters join or stack (Arabic, Devanagari) are drawn letter by letter unless Pillow
has libraqm; letters that no font here has become ``?``.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

from PIL import ImageFont

__all__ = ["Font", "font_for"]

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
_LEAST_PX = 12
_UNASSIGNED = "\U0010ffff"


def font_for(text: str, size_px: int, width_px: float, tail: str = "") -> tuple[str, Font]:
    """The text as it can be drawn, and a font for it.

    Args:
        text: One line.
        size_px: Height of the letters that is wanted.
        width_px: What the text must fit into: the letters are made smaller, by a third at the most,
            then the text is cut.
        tail: What follows the text and is never cut.

    Returns:
        Text and tail, with ``?`` for letters that no font has, and the font.
    """
    text, name = _drawable(text)
    least_px = max(_LEAST_PX, size_px * 2 // 3)
    font = _load(name, size_px)
    while font.getlength(text + tail) > width_px and font.size > least_px:
        font = _load(name, max(least_px, int(font.size * 0.9)))
    if font.getlength(text + tail) > width_px:
        while text and font.getlength(f"{text}...{tail}") > width_px:
            text = text[:-1]
        text = f"{text.rstrip()}..."
    return text + tail, font


def _drawable(text: str) -> tuple[str, str]:
    """The text with ``?`` for what cannot be drawn, and the name of the font that draws most of it."""
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
    """Whether a font has a letter: it draws it otherwise than one that no font can have."""
    font = _load(name, 16)
    drawn, unknown = font.getmask(letter), font.getmask(_UNASSIGNED)
    return letter.isspace() or (drawn.size, bytes(drawn)) != (unknown.size, bytes(unknown))
