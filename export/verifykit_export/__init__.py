"""Write verifykit model files, from training runs and from ONNX files of other projects."""

from __future__ import annotations
