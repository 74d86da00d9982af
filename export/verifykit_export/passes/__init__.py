"""Passes that rewrite a network in place and keep what it computes.

The test of each runs the network before and after it.
"""

from __future__ import annotations

from verifykit_export.passes.drop_dead import drop_dead
from verifykit_export.passes.drop_identities import drop_identities
from verifykit_export.passes.fold_batch_norm import fold_batch_norm
from verifykit_export.passes.fold_constants import fold_constants
from verifykit_export.passes.fold_scale import fold_scale
from verifykit_export.passes.free_dimensions import free_dimensions
from verifykit_export.passes.merge_siblings import merge_siblings
from verifykit_export.passes.rewrite_prelu import rewrite_prelu
from verifykit_export.passes.sink_splits import sink_splits

__all__ = [
    "drop_dead",
    "drop_identities",
    "fold_batch_norm",
    "fold_constants",
    "fold_scale",
    "free_dimensions",
    "merge_siblings",
    "rewrite_prelu",
    "sink_splits",
]
