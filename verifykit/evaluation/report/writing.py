"""Render a report as a page, and write ``report.html`` and ``report.json``, each whole or not at all."""

from __future__ import annotations

import base64
import importlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from verifykit._environment import keep_matplotlib_here
from verifykit._files import atomic_write
from verifykit.errors import InputError
from verifykit.evaluation.report import formats
from verifykit.evaluation.report.sections import sections_of
from verifykit.evaluation.results import EvaluationReport

_LIBRARIES = ("jinja2", "matplotlib")


def require_report_libraries() -> None:
    """Raise an error before anything is computed that could not be reported."""
    keep_matplotlib_here()
    try:
        for library in _LIBRARIES:
            importlib.import_module(library)
    except ImportError as error:
        raise InputError(
            f"a report needs {' and '.join(_LIBRARIES)} ({error}): "
            'pip install "verifykit-sdk[evaluate]"'
        ) from error


def write_report(
    report: EvaluationReport,
    folder: str | os.PathLike[str],
    crops: Mapping[str, bytes] | None = None,
) -> tuple[Path, Path]:
    """Write ``report.json`` and the self-contained page ``report.html``.

    Both are made before either is put into the folder; earlier ones are replaced.

    Args:
        report: What was measured.
        folder: Where to; made if it is not there.
        crops: JPEG bytes of crops, by the names in ``HardestPair.probe`` and ``reference``; one that
            is missing is shown as an empty box.

    Returns:
        The paths of the JSON file and of the page.

    Raises:
        InputError: Jinja or Matplotlib cannot be imported.
        OSError: The folder cannot be made or written.
    """
    require_report_libraries()
    data = json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n"
    page = render_page(report, crops or {})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / "report.json", folder / "report.html")
    atomic_write(paths[1], page)
    atomic_write(paths[0], data)
    return paths


def render_page(report: EvaluationReport, crops: Mapping[str, bytes]) -> str:
    """Return the page; `crops` are JPEG bytes by image name; equal input gives equal text."""
    keep_matplotlib_here()
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
