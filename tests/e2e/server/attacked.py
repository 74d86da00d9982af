"""A service with keys, and what it must not tell anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.server.served import Served

__all__ = ["ODD_IDS", "SCOPES", "Attacked"]

SCOPES = ("verify", "enrol", "read", "admin")
ODD_IDS = (
    "../../etc/passwd",
    "..\\..\\windows",
    "a/verify",
    "/etc/passwd",
    "%2e%2e%2f",
    "%2F",
    "a?model=x#b",
    "con.db",
    "-rf",
    "'; DROP TABLE subjects; --",
    "<script>alert(1)</script>",
    "x" * 255,
)


@dataclass
class Attacked:
    """It is open to nobody without a key; three failed verifications of a subject are too many.

    Attributes:
        tokens: One for each of ``SCOPES``.
    """

    service: Served
    client: httpx.Client
    folder: Path
    tokens: Mapping[str, str]

    def headers(self, scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[scope]}"}

    @property
    def audit_log(self) -> Path:
        return self.folder / "staff.db.audit.jsonl"
