"""Weights of an encoder from a file or a run, placed key by key, with a report of every key.

A file may name tensors as we do (``backbone.…``, ``head.…``) or as its publisher does (:class:`Published`),
may be wrapped in a checkpoint, and may have a prefix such as ``module.`` before every name. Nothing in it is
executed.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from verifykit.errors import InputError, ModelIntegrityError, ModelNotFoundError, shortened
from verifykit_training.encoders.weights_in_model import read_model_weights
from verifykit_training.errors import first_line

RUN_WEIGHTS = "weights.safetensors"
_RUN_CHECKPOINT = Path("checkpoints", "last.pt")

_SHOWN = 8
_PREFIX_PARTS = 3
# Where a training loop's checkpoint has the network; the last three are ours.
_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "backbone",
    "encoder",
    "net",
    "network",
    "weights",
    "params",
    "learner",
    "modules",
)
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Published:
    """How a publisher names the tensors of an encoder.

    Attributes:
        head: (their prefix, our prefix) of the last layers, ours below ``head.``.
        rename: Maps their names to the backbone's.
    """

    head: tuple[tuple[str, str], ...] = ()
    rename: Callable[[str], str] = str

    def own(self, key: str) -> str:
        """Return our name of a tensor."""
        renamed = self.rename(key)
        for theirs, ours in self.head:
            if renamed.startswith(theirs):
                return f"head.{ours}{renamed[len(theirs) :]}"
        return f"backbone.{renamed}"


@dataclass(frozen=True)
class WeightsReport:
    """What became of every tensor of a source of weights.

    Attributes:
        source: The file or folder.
        sha256: Digest of the file.
        matched: Our names of the tensors that were loaded.
        missing: Our names of those that the source does not have; they begin at random.
        unexpected: The source's names of tensors that the encoder has no place for.
        differing: (our name, the source's shape, our shape); they begin at random.
        notes: What else is worth knowing, a sentence each.
    """

    source: str
    sha256: str
    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    differing: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """Return the report in one line; the rest is in ``weights.json`` of the run."""
        total = len(self.matched) + len(self.missing) + len(self.differing)
        parts = [f"{len(self.matched)} of {total} tensors loaded from {shortened(self.source)}"]
        if self.missing:
            parts.append(f"missing, begun at random: {_some(self.missing)}")
        if self.differing:
            shapes = [_difference(*item) for item in self.differing]
            parts.append(f"of another shape, begun at random: {_some(shapes)}")
        if self.unexpected:
            parts.append(f"not used: {_some(self.unexpected)}")
        return "; ".join([*parts, *self.notes])

    def to_json(self) -> str:
        """Return every key as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class Source:
    """Tensors by name, and where they come from."""

    path: Path
    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A state dict from a file, unwrapped; nothing in it is executed.

    Args:
        path: A ``.pth``, ``.pt`` or ``.safetensors`` file, a checkpoint that contains a state dict, a
            verifykit model (``.onnx``) or the folder of a run.

    Returns:
        Name to tensor, on the CPU.

    Raises:
        ModelNotFoundError: There is no such file.
        ModelIntegrityError: The file holds something else than tensors by name.
    """
    return read_source(path).state


def read_source(path: str | Path) -> Source:
    """Read the tensors of a file or of a run's folder."""
    path = _file_of(Path(path))
    if path.suffix == ".onnx":
        return Source(path, *read_model_weights(path))
    try:
        if _is_safetensors(path):
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                loaded: Any = load_file(path)
            except SafetensorError as error:
                raise ValueError(str(error)) from error
        else:
            with warnings.catch_warnings():  # it warns of what it then refuses
                warnings.simplefilter("ignore")
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelIntegrityError(
            f"{shortened(path)} holds Python objects besides tensors, for example a whole model, or is not a "
            "file of weights; objects are not loaded, because that would run code of the file: where "
            "the model was made, save its tensors with torch.save(model.state_dict(), FILE)"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        if "TorchScript" in str(error):
            raise ModelIntegrityError(
                f"{shortened(path)} is a TorchScript archive, which contains code: save the tensors of its "
                "model with torch.save(model.state_dict(), FILE)"
            ) from error
        raise ModelIntegrityError(
            f"{shortened(path)} is not a file of weights: {shortened(first_line(error))}"
        ) from error
    state = _unwrapped(loaded)
    if state is None:
        raise ModelIntegrityError(
            f"{shortened(path)} does not map names to tensors: a state dict is required, by itself or in a "
            f"checkpoint under a name such as {', '.join(_WRAPPERS[:3])}"
        )
    return Source(path, state)


def _is_safetensors(path: Path) -> bool:
    """Return whether a file is named or begins as safetensors: the length of a header, and its brace."""
    with path.open("rb") as file:
        start = file.read(9)
    return path.suffix == ".safetensors" or start[8:] == b"{"


def _file_of(path: Path) -> Path:
    """Return the file with the weights of a run: the best, or the last of one that kept none yet."""
    if path.is_dir():
        for name in (RUN_WEIGHTS, _RUN_CHECKPOINT):
            if (path / name).is_file():
                return path / name
        raise ModelNotFoundError(
            f"the folder {shortened(path)} is not that of a run: it has neither {RUN_WEIGHTS} nor "
            f"{_RUN_CHECKPOINT.as_posix()}"
        )
    if not path.is_file():
        raise ModelNotFoundError(
            f"there is no weights file {shortened(path)}; give the path of one, or write "
            'weights = "none" for a random start'
        )
    return path


def _unwrapped(loaded: Any) -> dict[str, Tensor] | None:
    """Return the first mapping of names to tensors, found in the order of ``_WRAPPERS``."""
    if not isinstance(loaded, Mapping):
        return None
    if loaded and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items()):
        return dict(loaded)
    for name in _WRAPPERS:
        found = _unwrapped(loaded.get(name))
        if found is not None:
            return found
    return None


def one_channel(weight: Tensor, input_channels: int) -> Tensor:
    """The first convolution for another number of channels than three.

    One grey channel replaces three equal ones, so its filter is the sum of the three.

    Raises:
        InputError: Neither 3 nor 1 channels.
    """
    if input_channels == weight.shape[1]:
        return weight
    if input_channels != 1:
        raise InputError(
            f"pretrained weights are for 3 channels, and can be made to fit 1, not {input_channels}"
        )
    return weight.sum(dim=1, keepdim=True)


def load_file_into(network: nn.Module, path: str, published: Published, name: str) -> WeightsReport:
    """Load a file or a run into an encoder; raise ModelIntegrityError unless its backbone is all there."""
    source = read_source(path)
    found = load_state(
        network, source.state, published, source=path, name=name, sha256=_sha256(source.path)
    )
    return WeightsReport(**{**vars(found), "notes": (*source.notes, *found.notes)})


def load_state(
    network: nn.Module,
    state: Mapping[str, Tensor],
    published: Published,
    *,
    source: str,
    name: str,
    sha256: str = "",
) -> WeightsReport:
    """Load tensors by name into backbone and head.

    The backbone is loaded whole or not at all. A head of another size, such as the classifier of the
    network's first task, is dropped whole.

    Args:
        network: An encoder with ``backbone`` and ``head``.
        state: Name to tensor.
        published: The publisher's names.
        source: Where they come from.
        name: The encoder's name, for the error.
        sha256: Digest of the file, for the report.

    Returns:
        What became of every tensor.

    Raises:
        ModelIntegrityError: Keys of the backbone are missing or unknown, or a shape differs.
        InputError: A number of channels that pretrained weights cannot be made to fit.
    """
    own = network.state_dict()
    given, unexpected = _placed(state, own, published)
    _fit_channels(given, own)
    _require_finite(given, f"{name} ({source})")
    differing = [
        (key, tuple(value.shape), tuple(own[key].shape))
        for key, value in given.items()
        if value.shape != own[key].shape
    ]
    # Files older than torch 0.4.1 have no such counter, and nothing reads it while momentum is set.
    missing = [key for key in own if key not in given and not key.endswith(_COUNTER)]
    _require_backbone(network, missing, differing, unexpected, f"{name} ({source})")
    notes: tuple[str, ...] = ()
    if differing:  # of the head, a part of which would be of no use
        dropped = [key for key in given if key.startswith("head.")]
        for key in dropped:
            del given[key]
        same = {key for key, *_ in differing}
        missing += [key for key in dropped if key not in same and not key.endswith(_COUNTER)]
    network.load_state_dict(given, strict=False)
    return WeightsReport(
        source=source,
        sha256=sha256,
        matched=tuple(given),
        missing=tuple(missing),
        unexpected=tuple(key for key, _ in unexpected),
        differing=tuple(differing),
        notes=notes,
    )


def _placed(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], published: Published
) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    """Return tensors by our names, and (name, what ours would be) of the others.

    Of the prefixes that names have in common, and the two ways of naming, those are taken that place the
    most tensors.
    """
    best: dict[str, str] = {}
    namings: tuple[Callable[[str], str], ...] = (published.own, str)
    chosen: tuple[str, Callable[[str], str]] = ("", published.own)
    for prefix in sorted(_prefixes(state), key=len):
        for naming in namings:
            found = {
                key: ours
                for key in state
                if key.startswith(prefix) and (ours := naming(key[len(prefix) :])) in own
            }
            if len(found) > len(best):
                best, chosen = found, (prefix, naming)
    prefix, naming = chosen
    others = [(key, naming(key.removeprefix(prefix))) for key in state if key not in best]
    return {ours: state[key] for key, ours in best.items()}, others


def _prefixes(names: Iterable[str]) -> set[str]:
    found = {""}
    for name in names:
        parts = name.split(".")
        for count in range(1, min(_PREFIX_PARTS, len(parts) - 1) + 1):
            found.add(".".join(parts[:count]) + ".")
    return found


def _fit_channels(given: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    first = next((key for key, value in own.items() if value.ndim == 4), None)
    if first in given and given[first].ndim == 4 and given[first].shape[1] == 3:
        given[first] = one_channel(given[first], own[first].shape[1])


def _require_finite(given: Mapping[str, Tensor], what: str) -> None:
    """Raise ModelIntegrityError for NaN or infinity, with which the first step would end."""
    wrong = [
        _bare(key)
        for key, value in given.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if wrong:
        raise ModelIntegrityError(
            f"the weights of {shortened(what)} hold NaN or infinity in {len(wrong)} tensor(s): "
            f"{_some(wrong)}; take an earlier checkpoint of that training"
        )


def _require_backbone(
    network: nn.Module,
    missing: list[str],
    differing: list[tuple[str, tuple[int, ...], tuple[int, ...]]],
    unexpected: list[tuple[str, str]],
    what: str,
) -> None:
    """Raise ModelIntegrityError unless every tensor of the backbone is there, and none too many."""
    parts = {f"backbone.{name}" for name, _ in network.get_submodule("backbone").named_children()}
    lacking = [_bare(key) for key in missing if key.startswith("backbone.")]
    shapes = [_difference(*item) for item in differing if item[0].startswith("backbone.")]
    # A deeper network of the same kind has every tensor of this one, and more in the same parts.
    surplus = [key for key, ours in unexpected if ".".join(ours.split(".")[:2]) in parts]
    if not (lacking or shapes or surplus):
        return
    problems = [
        f"{len(keys)} {kind}: {_some(keys)}"
        for kind, keys in (
            ("missing", lacking),
            ("unknown", [key for key, _ in unexpected]),
            ("of another shape", shapes),
        )
        if keys
    ]
    raise ModelIntegrityError(f"the weights of {shortened(what)} do not fit: {'; '.join(problems)}")


def _difference(key: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> str:
    return f"{_bare(key)} {theirs} instead of {ours}"


def _bare(key: str) -> str:
    return key.removeprefix("backbone.")


def _some(keys: Iterable[str]) -> str:
    names = [shortened(key) for key in keys]
    return f"{', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"


def require_no_imagenet(name: str, weights: str) -> None:
    """Raise ModelNotFoundError for ``"imagenet"``, for an encoder that no such weights exist for."""
    if weights == "imagenet":
        raise ModelNotFoundError(
            f'{name} has no ImageNet weights; write weights = "none" for a random start, or give the '
            "path of a file"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
