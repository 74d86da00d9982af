"""Enrol and verify people whom a model never saw.

``python -m benchmarks.kept_out MODEL --data PATH --fmr 0.1``

Of every subject with four pictures or more in ``faces/lfw_val`` two are enrolled; the others are verified
against their own subject and against the next one, through the public API.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from rich.progress import track

import verifykit as vk
from benchmarks.faces import data_argument, read_people

REFERENCES = 2
LEAST_PICTURES = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.kept_out", description=__doc__)
    parser.add_argument("model", help="a registered name, or the path of a model file")
    data_argument(parser)
    parser.add_argument("--fmr", type=float, default=0.1)
    parser.add_argument("--people", type=int, default=40)
    arguments = parser.parse_args()
    pictures: dict[str, list[Path]] = defaultdict(list)
    for path, subject in read_people(arguments.data, "lfw_val"):
        pictures[subject].append(path)
    people = sorted(s for s, paths in pictures.items() if len(paths) >= LEAST_PICTURES)
    people = people[: arguments.people]
    verifier = vk.Verifier(arguments.model, fmr=arguments.fmr, multi_face="largest", quality="warn")
    for subject in people:
        verifier.enroll(subject, pictures[subject][:REFERENCES])
    mated, non_mated = [], []
    for number, subject in enumerate(track(people, description="verifying")):
        other = people[(number + 1) % len(people)]
        for path in pictures[subject][REFERENCES:]:
            mated.append(verifier.verify(subject, path))
            non_mated.append(verifier.verify(other, path))
    fmr = mated[0].fmr
    print(f"{len(people)} people, {REFERENCES} references each; threshold of FMR {fmr:g}")
    print(f"own pictures accepted: {sum(map(bool, mated))} of {len(mated)}")
    print(f"the next person's accepted: {sum(map(bool, non_mated))} of {len(non_mated)}")


if __name__ == "__main__":
    main()
