"""Models from elsewhere into verifykit model files: passes over the graph, digest, golden, writing."""

from __future__ import annotations
