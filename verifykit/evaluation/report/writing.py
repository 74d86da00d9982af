"""Write ``report.json`` and ``report.html``, each whole or not at all."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from verifykit.errors import InputError
from verifykit.evaluation.report.rendering import render_page
from verifykit.evaluation.results import EvaluationReport
from verifykit.writing import write_whole

_LIBRARIES = ("jinja2", "matplotlib")


def require_report_libraries() -> None:
    """Raise an error before anything is computed that could not be reported."""
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
    write_whole(paths[1], page.encode())
    write_whole(paths[0], data.encode())
    return paths
