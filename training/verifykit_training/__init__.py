"""Encoders, losses, samplers and the loop that train verifykit models; may import `verifykit`."""

from __future__ import annotations
