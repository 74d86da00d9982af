"""Encoders, losses, samplers and the loop that train verifykit models; may import `verifykit`."""

from __future__ import annotations

import os

from verifykit._environment import keep_matplotlib_here

# Before albumentations is imported: it asks a server for a newer version otherwise.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
keep_matplotlib_here()
