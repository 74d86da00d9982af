"""The audit log: an append-only record of decisions, each line chained by hash to the line before.

::

    {"decision":"match","hash":"…","key_id":"door","previous":"…","score":0.61,"sequence":17,…}

A log has one JSON object a line. The first line identifies the log (a random id and the time) and is chained
to a fixed origin, each other line to the hash of the line before, so that lines of two logs do not fit
together. The log's head is stored next to it, in ``<log>.head``: see :class:`AuditLog`.
"""

from __future__ import annotations

from verifykit.audit.entry import AuditEntry
from verifykit.audit.log import AuditLog
from verifykit.audit.read import ExportFormat, export_log, parse_time, read_log, tail_log
from verifykit.audit.verify import AuditProblem, AuditReport, examine_log

__all__ = [
    "AuditEntry",
    "AuditLog",
    "AuditProblem",
    "AuditReport",
    "ExportFormat",
    "examine_log",
    "export_log",
    "parse_time",
    "read_log",
    "tail_log",
]
