"""Copy LFW's people to numbered folders, as a staff: ``python docs/how-to/staff_images.py DATA FOLDER``.

``DATA`` is the folder that contains ``faces/lfw_val``. The images are not part of the repository, because
their terms do not allow redistribution.
"""  # noqa: INP001

from __future__ import annotations

import argparse
import shutil
from pathlib import Path


def main() -> None:
    """Copy ``lfw_val/NAME/NAME_0007.jpg`` to ``FOLDER/0001/1.jpg`` and so on, in the order of names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    people = sorted(
        path for path in (arguments.data / "faces" / "lfw_val").iterdir() if path.is_dir()
    )
    for number, person in enumerate(people, start=1):
        target = arguments.folder / f"{number:04}"
        target.mkdir(parents=True)
        for count, image in enumerate(sorted(person.glob("*.jpg")), start=1):
            shutil.copy(image, target / f"{count}.jpg")


if __name__ == "__main__":
    main()
