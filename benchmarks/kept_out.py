"""Enrol and verify subjects that a model was not trained on.

``python -m benchmarks.kept_out MODEL --data PATH --fmr 0.1``

Two images of every subject with four or more in ``faces/lfw_val`` are enrolled; the others are verified
against their own subject and against the next one, through the public API.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from rich.progress import track

import verifykit as vk
from benchmarks.face.data import add_data_argument, read_subjects

REFERENCES = 2
MIN_IMAGES = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.kept_out", description=__doc__)
    parser.add_argument("model", help="a registered name, or the path of a model file")
    add_data_argument(parser)
    parser.add_argument("--fmr", type=float, default=0.1)
    parser.add_argument("--people", type=int, default=40, help="number of subjects")
    arguments = parser.parse_args()
    images: dict[str, list[Path]] = defaultdict(list)
    for path, subject in read_subjects(arguments.data, "lfw_val"):
        images[subject].append(path)
    subjects = sorted(s for s, paths in images.items() if len(paths) >= MIN_IMAGES)
    subjects = subjects[: arguments.people]
    verifier = vk.Verifier(arguments.model, fmr=arguments.fmr, multi_face="largest", quality="warn")
    for subject in subjects:
        verifier.enroll(subject, images[subject][:REFERENCES])
    mated, non_mated = [], []
    for number, subject in enumerate(track(subjects, description="verifying")):
        other = subjects[(number + 1) % len(subjects)]
        for path in images[subject][REFERENCES:]:
            mated.append(verifier.verify(subject, path))
            non_mated.append(verifier.verify(other, path))
    fmr = mated[0].fmr
    print(f"{len(subjects)} subjects, {REFERENCES} references each; threshold at FMR {fmr:g}")
    print(f"mated probes accepted: {sum(map(bool, mated))} of {len(mated)}")
    print(f"non-mated probes accepted: {sum(map(bool, non_mated))} of {len(non_mated)}")


if __name__ == "__main__":
    main()
