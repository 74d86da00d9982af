from __future__ import annotations

from tests.unit.export.opencv_network import detector, encoder, sface, yunet

__all__ = ["detector", "encoder", "sface", "yunet"]
