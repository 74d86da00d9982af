"""Error rates on a user's own pictures: reading them, measuring, reporting, calibrating."""

from __future__ import annotations
