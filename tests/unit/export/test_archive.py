"""Archives of unknown origin are read without risk, or refused."""

from __future__ import annotations

import struct
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

from verifykit_export.archive import Archive
from verifykit_export.errors import ExportError


def write(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data, compress_type=kind)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pack.zip"


def test_members_are_read_and_nothing_is_unpacked(path: Path) -> None:
    write(path, {"a/b.onnx": b"one", "..c.onnx": b"two", "d..e": b"three"}, zipfile.ZIP_DEFLATED)
    with Archive(path) as opened:
        assert list(opened.names) == ["a/b.onnx", "..c.onnx", "d..e"]
        assert opened.read("a/b.onnx") == b"one"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    ["/etc/x.onnx", "../x.onnx", "a/../../x", "..\\x", "C:\\x.onnx", "a/..", "a\nb", "\\\\x"],
)
def test_a_path_outside_of_the_archive_is_refused(path: Path, name: str) -> None:
    write(path, {"good.onnx": b"x", name: b"x"})
    with pytest.raises(ExportError, match="a path outside of the archive"):
        Archive(path)


def test_two_members_of_one_name_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.onnx", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.onnx", b"2")
    with pytest.raises(ExportError, match="two members of one name"):
        Archive(path)


def test_more_members_than_allowed_are_refused(path: Path) -> None:
    write(path, {f"{n}": b"" for n in range(10_001)})
    with pytest.raises(ExportError, match="has 10001 members, more than 10000"):
        Archive(path)


def test_a_member_that_unpacks_to_very_much_is_not_unpacked(path: Path) -> None:
    write(path, {"bomb.onnx": bytes(1 << 25)}, zipfile.ZIP_DEFLATED)
    with Archive(path) as opened, pytest.raises(ExportError, match="more than 100 times as many"):
        opened.read("bomb.onnx")


def edited(path: Path, size: int) -> Path:
    """State another size of the only member, in its own header and in the directory."""
    data = bytearray(path.read_bytes())
    data[22:26] = struct.pack("<I", size)
    start = data.index(b"PK\x01\x02")
    data[start + 24 : start + 28] = struct.pack("<I", size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [10, 1000])
def test_a_member_of_another_size_than_stated_is_refused(path: Path, size: int) -> None:
    write(path, {"a.onnx": bytes(range(200))}, zipfile.ZIP_DEFLATED)
    edited(path, size)
    with Archive(path) as opened, pytest.raises(ExportError, match=r"cannot be read|another size"):
        opened.read("a.onnx")


def test_a_member_of_more_than_two_gib_is_refused(path: Path) -> None:
    edited(write(path, {"a.onnx": b"x" * 200}), 2**31 + 5)
    with Archive(path) as opened, pytest.raises(ExportError, match=r"has 2\.0 GiB"):
        opened.read("a.onnx")


def test_an_encrypted_member_is_refused(path: Path) -> None:
    write(path, {"a.onnx": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with Archive(path) as opened, pytest.raises(ExportError, match="is encrypted"):
        opened.read("a.onnx")


def test_a_flipped_byte_and_a_cut_file_are_refused(path: Path) -> None:
    write(path, {"a.onnx": b"x" * 1000})
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with Archive(path) as opened, pytest.raises(ExportError, match="cannot be read"):
        opened.read("a.onnx")
    path.write_bytes(data[:600])
    with pytest.raises(ExportError, match="no ZIP archive"):
        Archive(path)


def test_a_damaged_member_is_refused_however_it_is_compressed(path: Path) -> None:
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        write(path, {"a.onnx": bytes(range(250)) * 4}, kind)
        data = bytearray(path.read_bytes())
        start = 30 + len("a.onnx")
        data[start + 4 : start + 16] = b"\xff" * 12
        path.write_bytes(data)
        with Archive(path) as opened, pytest.raises(ExportError, match="cannot be read"):
            opened.read("a.onnx")
