"""The audit log: who did what to whom and how it came out, each line sealed to the one before.

::

    {"decision":"match","hash":"…","key_id":"door","previous":"…","score":0.61,"sequence":17,…}

One JSON object a line, append only. The first line names the log (a random id and the time) and is sealed
to a fixed origin, every other to the hash of the line before, so that lines of two logs do not fit
together. Beside the log lies its head, ``<log>.head``: see :class:`AuditLog`.
"""

from __future__ import annotations

from verifykit.audit.chain import AuditProblem
from verifykit.audit.entry import AuditEntry
from verifykit.audit.log import AuditLog
from verifykit.audit.reading import ExportFormat, export_log, parse_time, read_log, tail_log
from verifykit.audit.verifying import AuditReport, examine_log, verify_log

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
    "verify_log",
]
