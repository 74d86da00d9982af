"""A second face model: the registered one with the crop's mirror image added."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from verifykit import modelfile
from verifykit.encoder import Encoder
from verifykit.modalities import golden_image

__all__ = ["write_second_model"]


def write_second_model(face_model: Path, path: Path, **changes: Any) -> Path:
    """Write a model file of another digest than the face model's; ``changes`` are of its specification."""
    file = modelfile.read(face_model)
    golden = golden_image(file.spec.input.height_px, file.spec.input.width_px)
    opened = Encoder.open(file, providers="auto", threads=2)
    both = opened.encode([golden, golden[:, ::-1]]).sum(axis=0)
    spec = replace(
        file.spec,
        name="face-2",
        input=replace(file.spec.input, mirror=True),
        golden_embedding=tuple(map(float, both / np.linalg.norm(both))),
    )
    spec = replace(spec, **changes)
    end = len(modelfile.metadata_entry(modelfile.CHECKSUM_KEY, "0" * 64))
    old = modelfile.metadata_entry(modelfile.SPEC_KEY, file.spec.to_json())
    bare = file.data[:-end]
    assert bare.endswith(old)
    new = modelfile.metadata_entry(modelfile.SPEC_KEY, spec.to_json())
    path.write_bytes(modelfile.append_checksum(bare.removesuffix(old) + new))
    return path
