"""The golden embedding: what the finished network answers to the golden image."""

from __future__ import annotations

import onnx

from verifykit.errors import ModelContractError
from verifykit.preprocess import golden_image, to_tensor
from verifykit.session import Session, unit_rows
from verifykit.spec import InputSpec
from verifykit.types import Embeddings, Image

__all__ = ["SWAPPED_COSINE", "golden_embedding", "swapped_cosine"]

SWAPPED_COSINE = 0.99
"""From here on a swapped channel order would not be found at load."""


def golden_embedding(
    model: onnx.ModelProto, spec: InputSpec, *, may_ignore_color: bool = False
) -> tuple[float, ...]:
    """Run a network on the golden image through verifykit's own preprocessing and session.

    Args:
        model: An encoder, (N, C, H, W) float32 to (N, D) float32.
        spec: How crops become its input.
        may_ignore_color: Do not insist that the network tells red from blue: for one whose channel order
            is not in doubt, since it was trained by the same preprocessing.

    Returns:
        D values of unit length, rounded to 7 decimals.

    Raises:
        ModelContractError: The network's answer is not (N, D), or it answers alike when red and blue
            are swapped: its golden would not find that mistake.
        ProviderError: onnxruntime is not installed.
    """
    session = Session(model.SerializeToString(), name="encoder", providers="cpu")
    golden = _embed(session, spec, golden_image(spec.height_px, spec.width_px))
    cosine = None if may_ignore_color else swapped_cosine(model, spec)
    if cosine is not None and not cosine < SWAPPED_COSINE:
        raise ModelContractError(
            f"the golden image with red and blue swapped gives cosine {cosine:.4f} to itself, not "
            f"below {SWAPPED_COSINE}: a swapped channel order would not be found at load"
        )
    return tuple(round(float(value), 7) for value in golden[0])


def swapped_cosine(model: onnx.ModelProto, spec: InputSpec) -> float | None:
    """Cosine between the golden image's embeddings with red and blue in order and swapped.

    Args:
        model: An encoder, (N, C, H, W) float32 to (N, D) float32.
        spec: How crops become its input.

    Returns:
        In [-1, 1]; None for grey.

    Raises:
        ModelContractError: The network's answer is not (N, D).
        ProviderError: onnxruntime is not installed.
    """
    if spec.color == "grey":
        return None
    session = Session(model.SerializeToString(), name="encoder", providers="cpu")
    image = golden_image(spec.height_px, spec.width_px)
    return float(_embed(session, spec, image)[0] @ _embed(session, spec, image[..., ::-1])[0])


def _embed(session: Session, spec: InputSpec, image: Image) -> Embeddings:
    views = [image, image[:, ::-1]] if spec.mirror else [image]
    outputs = session.run(to_tensor(views, spec))
    size = outputs[0].shape[-1]
    rows = unit_rows(outputs, "encoder", len(views), size)
    return unit_rows([rows.sum(axis=0, keepdims=True)], "encoder", 1, size)
