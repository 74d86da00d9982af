"""The page as text: the template filled with the sections."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path

from verifykit.evaluation.report import formats
from verifykit.evaluation.report.sections import sections_of
from verifykit.evaluation.results import EvaluationReport


def render_page(report: EvaluationReport, pictures: Mapping[str, bytes]) -> str:
    """The whole page; equal input gives equal text.

    Args:
        report: What was measured.
        pictures: JPEG bytes of the images in the worst pairs, by their name there.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Every text that is put in is made printable, then escaped.
        finalize=lambda value: formats.plain_text(value) if type(value) is str else value,
    )
    filters = ("bounds", "count", "number", "one_in", "percent", "share")
    environment.filters.update({name: getattr(formats, name) for name in filters})
    environment.filters["needed"] = _needed
    environment.filters["picture"] = lambda name: _data_uri(pictures.get(name))
    return environment.get_template("report.html.j2").render(sections_of(report))


def _needed(fmr: float) -> int:
    """Non-mated comparisons that a false match rate takes, by the rule of three."""
    return math.ceil(3 / fmr - 1e-9)


def _data_uri(picture: bytes | None) -> str | None:
    if picture is None:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
