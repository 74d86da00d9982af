from __future__ import annotations

from tests.unit.export.carried import detector, encoder, sface, yunet

__all__ = ["detector", "encoder", "sface", "yunet"]
