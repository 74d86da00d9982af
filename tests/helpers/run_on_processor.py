"""Run tests as on an older x86 processor: ``python tests/helpers/run_on_processor.py avx2 [--short]``.

torch, oneDNN, NumPy and OpenCV leave out the instructions that the variables of the environment forbid; ONNX
Runtime has no such variable. Further arguments go to pytest.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

CHECKOUT = Path(__file__).parents[2]

# OpenBLAS, which NumPy's products run on, has kernels of its own.
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENCV_CPU_DISABLE": "AVX512-SKX",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "sse4.1": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENCV_CPU_DISABLE": "AVX,AVX2,AVX512-SKX,FP16",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}
SHORT = (
    "tests/unit/export/test_foreign.py",
    "tests/unit/export/test_gate.py",
    "tests/unit/modalities/test_crops.py",
    "tests/e2e/test_export.py",
)
# Everything whose result depends on rounding.
WHOLE = (
    "tests/unit/export",
    "tests/unit/training",
    "tests/unit/modalities",
    "tests/unit/metrics",
    "tests/unit/evaluation",
    "tests/unit/drift",
    "tests/unit/gallery/test_coarse.py",
    "tests/unit/gallery/test_index.py",
    "tests/unit/gallery/test_penalised.py",
    "tests/contract",
    "tests/e2e/test_export.py",
    "tests/e2e/test_face.py",
    "tests/e2e/test_signature_training.py",
    "tests/e2e/test_docs.py::test_the_tutorial_runs_on_drawn_people",
)


def disabled_features(variant: str, dispatched: Sequence[str], present: Mapping[str, bool]) -> str:
    """Return the value of ``NPY_DISABLE_CPU_FEATURES``: NumPy warns of features that are not there."""
    kept = (
        ("X86_V2",) if variant == "sse4.1" else ("X86_V2", "X86_V3", "AVX", "AVX2", "FMA3", "F16C")
    )
    names = [name for name in dispatched if present.get(name)]
    # Older NumPy lists instruction sets by name, those of SSE among them.
    return " ".join(
        name
        for name in names
        if name not in kept and not name.startswith(("SSE", "SSSE", "POPCNT"))
    )


def environment(variant: str) -> dict[str, str]:
    """Return the variables of a variant for this machine's processor and NumPy."""
    features = np._core._multiarray_umath  # type: ignore[attr-defined]
    disabled = disabled_features(variant, features.__cpu_dispatch__, features.__cpu_features__)
    numpy_variables = {"NPY_DISABLE_CPU_FEATURES": disabled} if disabled else {}
    return {**VARIANTS[variant], **numpy_variables}


def main() -> int:
    """Run pytest; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument(
        "--short", action="store_true", help="a selection that takes a minute or two"
    )
    options, more = parser.parse_known_args()
    if platform.machine().lower() not in ("x86_64", "amd64"):
        print(f"{options.variant}: nothing to run, this is no x86 processor ({platform.machine()})")
        return 0
    variables = environment(options.variant)
    print(" ".join(f"{name}={value!r}" for name, value in variables.items()), flush=True)
    tests = SHORT if options.short else WHOLE
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *more, *tests]
    return subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **variables}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
