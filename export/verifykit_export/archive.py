"""Read members of a ZIP archive of unknown origin.

Members are read into memory, one at a time; none is written to a path that the archive names.
"""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType

from verifykit.errors import shortened, shortened_path, shown
from verifykit_export.errors import ExportError

_MOST_MEMBERS = 10_000
MOST_BYTES = 2**31 - 1
"""Of one member: protobuf's limit, and so that of an ONNX file."""
# Trained weights hardly compress; text and constants do. Larger members are not unpacked beyond this.
_MOST_RATIO, _SMALL_BYTES = 100, 1 << 24

# What a damaged or crafted member raises, by how it is compressed; RuntimeError where that is unknown.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
)

_UNSAFE = re.compile(r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)|[\x00-\x1f]")


class Archive:
    """An open ZIP archive whose members were checked: their number, names and sizes.

    Attributes:
        path: The file.
        names: Names of the members that are files, in the archive's order.
    """

    def __init__(self, path: Path) -> None:
        """Open an archive; raise ExportError unless it can be read without risk."""
        self.path = path
        try:
            self._file = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
            raise ExportError(
                f"{shortened(path)} is no ZIP archive that can be read: {shortened_path(error)}"
            ) from error
        members = [info for info in self._file.infolist() if not info.is_dir()]
        self.names: Sequence[str] = [info.filename for info in members]
        try:
            self._check(members)
        except ExportError:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _check(self, members: Sequence[zipfile.ZipInfo]) -> None:
        if len(members) > _MOST_MEMBERS:
            raise ExportError(
                f"{shortened(self.path)} has {len(members)} members, more than {_MOST_MEMBERS}: unpack it, "
                "and import the one file"
            )
        for name in self.names:
            # Nothing is unpacked to a path; but an archive with such a name was made to do harm.
            if _UNSAFE.search(name):
                raise ExportError(
                    f"{shortened(self.path)} has a member {shown(name)}, a path outside of the archive: do "
                    "not trust it"
                )
        if len(set(self.names)) != len(self.names):
            raise ExportError(
                f"{shortened(self.path)} has two members of one name: do not trust it"
            )

    def read(self, name: str) -> bytes:
        """Return a member's bytes; raise ExportError if it is too large, encrypted or damaged."""
        info = self._file.getinfo(name)
        where = f"{shown(name)} in {shortened(self.path)}"
        if info.flag_bits & 1:
            raise ExportError(f"{where} is encrypted: unpack the archive with its password first")
        if info.file_size > MOST_BYTES:
            raise ExportError(
                f"{where} has {info.file_size / 2**30:.1f} GiB, the limit is 2 GiB: import a smaller encoder"
            )
        if info.file_size > max(_SMALL_BYTES, _MOST_RATIO * info.compress_size):
            raise ExportError(
                f"{where} is {info.compress_size} bytes that claim to be {info.file_size}, more than "
                f"{_MOST_RATIO} times as many: do not trust it"
            )
        try:
            with self._file.open(info) as member:
                data = member.read(info.file_size + 1)
        except _DAMAGE as error:
            raise ExportError(f"{where} cannot be read: {shortened_path(error)}") from error
        if len(data) != info.file_size:
            raise ExportError(f"{where} has another size than the archive states: it is damaged")
        return data


def base_name(member: str) -> str:
    """Return the last part of a member's name."""
    return PurePosixPath(member).name
