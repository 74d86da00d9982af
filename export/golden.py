"""The golden embedding: what the finished network answers to the golden image."""

from __future__ import annotations

import onnx

from verifykit.errors import ModelContractError
from verifykit.preprocess import golden_image, to_tensor
from verifykit.session import Session, unit_rows
from verifykit.spec import InputSpec
from verifykit.types import Embeddings, Image

__all__ = ["golden_embedding"]

SWAPPED_COSINE = 0.99


def golden_embedding(model: onnx.ModelProto, spec: InputSpec) -> tuple[float, ...]:
    """Run a network on the golden image through verifykit's own preprocessing and session.

    Args:
        model: An encoder, (N, C, H, W) float32 to (N, D) float32.
        spec: How crops become its input.

    Returns:
        D values of unit length, rounded to 7 decimals.

    Raises:
        ModelContractError: The network's answer is not (N, D), or it answers alike when red and blue
            are swapped: its golden would not find that mistake.
        ProviderError: onnxruntime is not installed.
    """
    session = Session(model.SerializeToString(), name="encoder", providers="cpu")
    image = golden_image(spec.height_px, spec.width_px)
    golden = _embed(session, spec, image)
    if spec.color != "grey":
        cosine = float(golden[0] @ _embed(session, spec, image[..., ::-1])[0])
        if not cosine < SWAPPED_COSINE:
            raise ModelContractError(
                f"the golden image with red and blue swapped gives cosine {cosine:.4f} to itself, not "
                f"below {SWAPPED_COSINE}: a swapped channel order would not be found at load"
            )
    return tuple(round(float(value), 7) for value in golden[0])


def _embed(session: Session, spec: InputSpec, image: Image) -> Embeddings:
    views = [image, image[:, ::-1]] if spec.mirror else [image]
    outputs = session.run(to_tensor(views, spec))
    size = outputs[0].shape[-1]
    rows = unit_rows(outputs, "encoder", len(views), size)
    return unit_rows([rows.sum(axis=0, keepdims=True)], "encoder", 1, size)
