"""Memory stays flat over many verifications of images of random sizes."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image as PilImage

import verifykit as vk

VERIFICATIONS, WARM_UP, ALLOWED_MB = 2000, 500, 48


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_thousand_verifications_of_random_sizes_stay_flat(
    portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    chance = random.Random(0)
    verifier = vk.Verifier("face", gallery=tmp_path / "staff.db")
    verifier.enroll("a", [portraits["person_a_1"]])
    probe = PilImage.open(portraits["person_a_2"]).convert("RGB")
    levels, matches = [], 0
    for number in range(VERIFICATIONS):
        scale = chance.uniform(0.4, 1.2)
        size = (int(probe.width * scale), int(probe.height * scale * chance.uniform(0.9, 1.1)))
        matches += bool(verifier.verify("a", probe.resize(size)))
        if number % 100 == 99:
            levels.append(resident_mb())
    assert matches > VERIFICATIONS / 2
    before = max(levels[: WARM_UP // 100])
    assert max(levels[WARM_UP // 100 :]) - before < ALLOWED_MB, levels
