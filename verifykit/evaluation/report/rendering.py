"""Render the page: the template filled with the sections."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path

from verifykit.evaluation.report import formats
from verifykit.evaluation.report.sections import sections_of
from verifykit.evaluation.results import EvaluationReport


def render_page(report: EvaluationReport, crops: Mapping[str, bytes]) -> str:
    """Return the page; `crops` are JPEG bytes by image name; equal input gives equal text."""
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
    environment.filters["crop"] = lambda name: _data_uri(crops.get(name))
    return environment.get_template("report.html.j2").render(sections_of(report))


def _needed(fmr: float) -> int:
    """Return the non-mated comparisons that a false match rate takes, by the rule of three."""
    return math.ceil(3 / fmr - 1e-9)


def _data_uri(crop: bytes | None) -> str | None:
    if crop is None:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(crop).decode('ascii')}"
