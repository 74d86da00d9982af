"""Write an evaluation as one HTML page that opens from disk, and as JSON next to it.

The only place that uses Jinja and Matplotlib: they belong to the extra ``evaluate``.
"""

from __future__ import annotations

from verifykit.evaluation.report.writing import require_report_libraries, write_report

__all__ = ["require_report_libraries", "write_report"]
