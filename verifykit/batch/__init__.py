"""Offline identification of many images: resumable, deterministic, parallel.

The output states everything that the answers depend on, and has a row for each image (or, as a table,
for each face) in the order of the source. A run that was killed is continued where it stopped, and gives
the same bytes as one that was not; so does any number of workers.
"""

from __future__ import annotations

from verifykit.batch.engine import Engine, LocalEngine
from verifykit.batch.run import BatchSummary, identify_batch
from verifykit.batch.sources import Source, SourceImage, open_source
from verifykit.datasets import IMAGE_SUFFIXES, find_images

__all__ = [
    "IMAGE_SUFFIXES",
    "BatchSummary",
    "Engine",
    "LocalEngine",
    "Source",
    "SourceImage",
    "find_images",
    "identify_batch",
    "open_source",
]
