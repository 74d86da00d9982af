"""Synthetic handwritten signatures, drawn from a seed, with skilled forgeries.

For tests and demonstrations without real signatures. A writer is a name in cursive letters with the
writer's own variations; a sample is that name written once; a forgery is the same name written slowly by
another writer. This is not a model of real handwriting: rates measured on it do not carry over.

Paths are in x-heights, y upwards from the base line, until they are drawn in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from demo.copybook import ALPHABET, CAPITALS, CONSONANTS, FLOURISHES, VOWELS, read_points
from demo.pen import Pen, draw

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

PATTERNS = (
    "Clllll",
    "Clllllll",
    "C.Cllll",
    "Cll Clll",
    "CClllll",
    "Clll Clll",
    "C Clllllll",
    "Cllll",
)

# Independent streams of random numbers: the first element of each seed.
_STYLE, _GENUINE, _FORGER, _COPY, _FORGED = range(5)


@dataclass(frozen=True)
class _Letter:
    """A letter in the form of its writer.

    Attributes:
        parts: The strokes, each (K, 2), in x-heights.
        added: Strokes drawn after the whole name, each (K, 2).
        advance: Distance to the next letter, in x-heights.
        lift: True if the pen is lifted after the letter.
    """

    parts: tuple[Points, ...]
    added: tuple[Points, ...]
    advance: float
    lift: bool


@dataclass(frozen=True)
class _Writing:
    """Parameters of one sample.

    Attributes:
        widths: (L,) factor on the width of every letter.
        heights: (L,) factor on the height of every letter.
        drift: (K, 2) displacement of every control point, in x-heights.
        slant: Tangent of the angle to the vertical, positive to the right.
        slope: Rise of the base line, in radians.
        size: Factor on the size.
        pen: The pen and its dynamics.
    """

    widths: Points
    heights: Points
    drift: Points
    slant: float
    slope: float
    size: float
    pen: Pen


class Writer:
    """A synthetic writer: the letters of a name and the parameters of a handwriting.

    Args:
        seed: Selects the writer, at least 0; the same seed is the same writer.

    Raises:
        ValueError: The seed is negative.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        rng = np.random.default_rng([_STYLE, seed])
        pattern = PATTERNS[rng.integers(len(PATTERNS))]
        self._space = rng.uniform(-0.1, 0.35)
        self._stretch = np.array([rng.uniform(0.55, 1.35), rng.uniform(0.8, 1.7)])
        self._capital = rng.uniform(0.8, 1.6)
        self._letters = self._name(pattern, rng)
        count = len(self._letters)
        flourish = FLOURISHES[rng.integers(len(FLOURISHES))]
        self._lifted = flourish.startswith("/")
        self._flourish = read_points(flourish.strip("/ ")) * (0.01, 0.1)
        self._flourish *= (rng.uniform(0.9, 1.1), rng.uniform(0.75, 1.35))
        self._flourish += (0.03, 0.15) * _noise(rng, len(self._flourish), 0.6)
        fade = np.linspace(1.0, rng.uniform(0.25, 1.1), count)
        ideal = _Writing(
            widths=1.0 + (1.0 - fade) * rng.uniform(0.0, 0.7),
            heights=fade,
            drift=np.zeros((1, 2)),
            slant=float(np.tan(np.radians(rng.uniform(-14.0, 42.0)))),
            slope=float(np.radians(rng.uniform(-3.0, 13.0))),
            size=1.0,
            pen=Pen(
                width_px=rng.uniform(1.9, 3.6),
                contrast=rng.uniform(0.25, 0.6),
                shade=rng.uniform(0.0, 0.5),
                fading=rng.uniform(-0.25, 0.25),
                taper_px=rng.uniform(6.0, 30.0),
                roundness=rng.uniform(0.6, 1.35),
                haste_px=rng.uniform(0.5, 6.0),
            ),
        )
        extent = np.ptp(np.concatenate(self._path(ideal)), axis=0)
        size = min(rng.uniform(390.0, 490.0) / extent[0], rng.uniform(165.0, 215.0) / extent[1])
        self._ideal = replace(ideal, size=float(size))

    def genuine(self, number: int) -> Image:
        """Draw a genuine signature.

        Args:
            number: Selects the sample, at least 0.

        Returns:
            (H, W, 3) uint8 RGB, [0, 255], dark ink on a white (255) background; about 200 by 450
            pixels, with small differences in size.

        Raises:
            ValueError: The number is negative.
        """
        rng = np.random.default_rng([_GENUINE, self.seed, number])
        return self._draw(self._vary(self._ideal, rng, 1.0), rng)

    def forgery(self, number: int, forger: int) -> Image:
        """Draw a skilled forgery of this writer's signature.

        The letters and their order are right. Proportions, slant and path deviate in a way specific to
        the forger; the line is slow: it has tremor and an even width.

        Args:
            number: Selects the attempt, at least 0.
            forger: Selects the forger, at least 0.

        Returns:
            (H, W, 3) uint8 RGB, [0, 255], like ``genuine``.

        Raises:
            ValueError: A number is negative.
        """
        habits = np.random.default_rng([_FORGER, forger])  # of the forger, in all forgeries
        slant, slope = habits.choice([-1, 1], 2) * habits.uniform((0.1, 0.02), (0.24, 0.06))
        aspect = habits.choice([0.9, 1.1]) * habits.uniform(0.97, 1.03)
        tremor = habits.uniform(0.4, 0.7)
        own = np.random.default_rng(
            [_COPY, forger, self.seed]
        )  # of the forger, in forgeries of this writer
        ideal = self._ideal
        count = len(self._letters)
        copied = replace(
            ideal,
            widths=ideal.widths * np.exp(0.14 * own.standard_normal(count)) * aspect,
            heights=ideal.heights * np.exp(0.12 * own.standard_normal(count)) / aspect,
            drift=0.17 * _noise(own, self._length(), 2.5),
            slant=ideal.slant + slant,
            slope=ideal.slope + slope,
            pen=replace(
                ideal.pen,
                width_px=ideal.pen.width_px * habits.uniform(0.9, 1.15),
                contrast=0.25 * ideal.pen.contrast,
                shade=0.4 * ideal.pen.shade,
                taper_px=3.0,
                haste_px=0.6 * ideal.pen.haste_px,
                tremor_px=tremor,
            ),
        )
        rng = np.random.default_rng([_FORGED, forger, self.seed, number])
        return self._draw(self._vary(copied, rng, 1.2), rng)

    def _name(self, pattern: str, rng: np.random.Generator) -> list[_Letter]:
        letters: list[_Letter] = []
        vowel = bool(rng.integers(2))
        for symbol, after in zip(pattern, pattern[1:] + "-", strict=True):
            if symbol in " .":
                continue
            vowel = not vowel
            forms = CAPITALS if symbol == "C" else VOWELS if vowel else CONSONANTS
            letter = self._letter(str(rng.choice(list(forms))), rng)
            if after in " .":
                letter = replace(letter, lift=True, advance=letter.advance + 0.6)
            if after == ".":
                dot = np.array([[letter.advance - 0.4, 0.1], [letter.advance - 0.28, 0.0]])
                letter = replace(letter, added=(*letter.added, dot))
            letters.append(letter)
        return letters

    def _letter(self, name: str, rng: np.random.Generator) -> _Letter:
        """Return a letter in this writer's form."""
        path, _, added = ALPHABET[name].partition("|")
        capital = self._capital if name.isupper() else 1.0
        width, beyond = self._stretch * (capital**0.5, capital)
        bent = []
        for part in path.rstrip("/ ").split("/"):
            points = read_points(part) * (0.1 * width, 0.1)
            outside = points[:, 1] - points[:, 1].clip(0.0, 1.0)  # ascenders and descenders
            points[:, 1] += outside * (beyond - 1.0)
            bent.append(points + 0.1 * capital * _noise(rng, len(points), 0.7))
        extra = (read_points(added) * (0.1 * width, 0.1 * beyond),) if added else ()
        advance = float(bent[-1][-1, 0]) + self._space
        return _Letter(tuple(bent), extra, advance, path.endswith("/"))

    def _path(self, writing: _Writing) -> list[Points]:
        """Lay out the letters as strokes, each (K, 2), y upwards."""
        strokes: list[list[Points]] = [[]]
        added: list[list[Points]] = []
        x = 0.0
        for letter, width, height in zip(
            self._letters, writing.widths, writing.heights, strict=True
        ):
            placed = [part * (width, height) + (x, 0.0) for part in letter.parts]
            strokes[-1].append(placed[0])
            strokes += [[part] for part in placed[1:]] + [[]] * letter.lift
            added += [[part * (width, height) + (x, 0.0)] for part in letter.added]
            x += letter.advance * width
        end = [self._flourish * (x, 1.0)] if len(self._flourish) else []
        strokes = (
            [*strokes, *added, end] if self._lifted else [*strokes[:-1], strokes[-1] + end, *added]
        )
        path = [np.concatenate(stroke) for stroke in strokes if stroke]
        lengths = np.cumsum([len(stroke) for stroke in path])
        points = np.concatenate(path) + writing.drift
        points[:, 0] += writing.slant * points[:, 1]
        cos, sin = np.cos(writing.slope), np.sin(writing.slope)
        points = points @ np.array([[cos, sin], [-sin, cos]]) * writing.size
        return np.split(points, lengths[:-1])

    def _length(self) -> int:
        return sum(len(stroke) for stroke in self._path(self._ideal))

    def _vary(self, writing: _Writing, rng: np.random.Generator, amount: float) -> _Writing:
        """Add the variation between samples of a writer."""
        count = len(self._letters)
        return replace(
            writing,
            widths=writing.widths * np.exp(amount * 0.07 * rng.standard_normal(count)),
            heights=writing.heights * np.exp(amount * 0.06 * rng.standard_normal(count)),
            drift=writing.drift + amount * 0.07 * _noise(rng, self._length(), 1.5),
            slant=writing.slant + amount * 0.035 * rng.standard_normal(),
            slope=writing.slope + amount * 0.02 * rng.standard_normal(),
            size=writing.size * float(np.exp(0.05 * rng.standard_normal())),
            pen=replace(
                writing.pen,
                width_px=writing.pen.width_px * float(np.exp(0.06 * rng.standard_normal())),
                grey=int(rng.integers(10, 60)),
            ),
        )

    def _draw(self, writing: _Writing, rng: np.random.Generator) -> Image:
        return draw([stroke * (1.0, -1.0) for stroke in self._path(writing)], writing.pen, rng)


def _noise(rng: np.random.Generator, count: int, reach: float) -> Points:
    """Draw (count, 2) normal noise of unit variance that is smooth over ``reach`` points."""
    half = int(np.ceil(3.0 * reach))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / reach) ** 2)
    kernel /= np.linalg.norm(kernel)
    white = rng.standard_normal((2, count + 2 * half))
    smooth = [np.convolve(row, kernel, mode="valid")[:count] for row in white]
    return np.stack(smooth, axis=1)
