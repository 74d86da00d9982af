"""Offline identification of a folder: one JSON line an image, resumable, deterministic.

The first line of the output states everything that the answers depend on; then one line an image, in
the order of the sorted paths. A run that was stopped, even in the middle of a line, is continued where
it stopped, and gives the same bytes as one that was not.
"""

from __future__ import annotations

from verifykit.batch.folder import IMAGE_SUFFIXES, BatchSummary, find_images, identify_folder

__all__ = ["IMAGE_SUFFIXES", "BatchSummary", "find_images", "identify_folder"]
