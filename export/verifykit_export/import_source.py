"""Open what an import was given: an ONNX file, an archive that has one, or a checkpoint of torch."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from verifykit.datasets import SYSTEM_FOLDERS
from verifykit.errors import InputError, ModelContractError, shortened, shown
from verifykit_export.archive import Archive, base_name
from verifykit_export.errors import ExportError
from verifykit_export.foreign_file import ForeignFile, file_digest, parsed, read_foreign
from verifykit_export.presets import Preset, described, is_recognition

_CHECKPOINTS = frozenset({".ckpt", ".pt", ".pth"})
_LISTED = 8


def open_source(path: Path, preset: Preset | None, member: str | None) -> ForeignFile:
    """Return the network of a file.

    Args:
        path: An ONNX file, a ZIP archive, or with a preset that has some a checkpoint of torch.
        preset: Whose files these are; None takes nothing for granted.
        member: Name of the ONNX file in an archive; None takes the only one, or the preset's.

    Raises:
        ExportError: It cannot be read, or nothing says which network of an archive is meant.
        InputError: A member of something that is no archive, or a checkpoint without a reader.
    """
    if not path.is_file():
        raise ExportError(
            f"{shortened(path)} is not a file: give the encoder's ONNX file, archive or checkpoint"
        )
    if path.suffix.lower() in _CHECKPOINTS:
        if preset is None or preset.read_checkpoint is None:
            raise InputError(
                f"{shortened(path)} is a checkpoint of torch, which says nothing about its network: give "
                "--preset adaface for one of AdaFace; load others in their own code and export them to ONNX"
            )
        _require_no_member(path, member)
        model = preset.read_checkpoint(path)
        return ForeignFile(path, model, file_digest(path))
    if zipfile.is_zipfile(path):
        with Archive(path) as archive:
            return _chosen(archive, preset, member)
    _require_no_member(path, member)
    return read_foreign(path)


def _require_no_member(path: Path, member: str | None) -> None:
    if member is not None:
        raise InputError(
            f"--member {shown(member)}: {shortened(path)} is not an archive of ONNX files; leave it out"
        )


def _chosen(archive: Archive, preset: Preset | None, member: str | None) -> ForeignFile:
    """Return the network of an archive that is meant."""
    names = [name for name in archive.names if _is_network(name)]
    if member is not None:
        if member not in archive.names:
            raise InputError(
                f"--member {shown(member)}: {shortened(archive.path)} has no such member, it has "
                f"{_listed(names)}"
            )
        return _read(archive, member)
    if preset is None:
        if len(names) != 1:
            raise ExportError(
                f"{shortened(archive.path)} has {len(names)} ONNX files: choose one with --member, or give "
                f"--preset; it has {_listed(names)}"
            )
        return _read(archive, names[0])
    found, others = [], []
    for name in names:
        try:
            model = parsed(archive.read(name), name)
        except ExportError as error:
            others.append(f"{name} ({error})")
            continue
        if is_recognition(model, preset):
            found.append(name)
        else:
            others.append(f"{name} ({described(model)})")
    if len(found) > 1:
        known = [name for name in found if base_name(name) in preset.file_names]
        found = known if len(known) == 1 else found
    if len(found) != 1:
        what = (
            f"several networks of the form that {preset.title} has: {_listed(found)}"
            if found
            else f"no network of the form that {preset.title} has; it has {_listed(others)}"
        )
        raise ExportError(f"{shortened(archive.path)} has {what}; choose one with --member NAME")
    return _read(archive, found[0])


def _is_network(member: str) -> bool:
    """Return whether a member is an ONNX file, and not what a system has stored about one."""
    first = member.split("/", 1)[0]
    is_own = first not in SYSTEM_FOLDERS and not base_name(member).startswith(".")
    return is_own and member.lower().endswith(".onnx")


def _read(archive: Archive, name: str) -> ForeignFile:
    data = archive.read(name)
    model = parsed(data, name)
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise ModelContractError(
            f"{shown(name)} in {shortened(archive.path)} has its weights in other files: unpack the archive, "
            "and import the file"
        )
    return ForeignFile(archive.path / name, model, hashlib.sha256(data).hexdigest())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(shortened(name) for name in names[:_LISTED]) or 'none'}{more}"
