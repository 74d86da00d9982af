"""The model file of a run before its first step: what the training added is the difference to it.

``python -m benchmarks.untrained --run runs/signature untrained.onnx``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from verifykit.spec import ModelSpec, Provenance
from verifykit_export.modelfile import golden_embedding, weights_digest, write_model
from verifykit_export.torch_export import to_onnx
from verifykit_training.learner import encoder_of
from verifykit_training.run_folder import RunFolder

__all__ = ["main", "write_untrained"]


def write_untrained(run: Path, target: Path, *, random: bool = False) -> ModelSpec:
    """Write the network of a run as it began, with the run's crop and input, uncalibrated.

    Args:
        run: The run's folder.
        target: The model file.
        random: Random weights even if the run began with pretrained ones.

    Returns:
        What the file says about itself.

    Raises:
        TrainingError: The folder holds no finished run.
        ConfigError: Its configuration was changed to something that is not allowed.
        ExportError: The network cannot be exported.
        ModelError: The pretrained weights that it began with are not there, or the run has a face crop.
        OSError: The target cannot be written.
    """
    folder = RunFolder(run)
    record = folder.read_record()
    config = folder.read_config()
    weights = "none" if random else config.encoder.weights
    section = config.encoder.model_copy(update={"weights": weights})
    torch.manual_seed(config.seed)
    encoder = encoder_of(config.model_copy(update={"encoder": section})).eval()
    model = to_onnx(encoder, record.input, record.embedding_size)
    spec = ModelSpec(
        name=f"{record.name}-untrained",
        modality=record.modality,  # type: ignore[arg-type]
        input=record.input,
        crop=record.crop,
        embedding_size=record.embedding_size,
        weights_sha256=weights_digest(model),
        golden_embedding=golden_embedding(model, record.input, may_ignore_color=True),
        licence=record.licence,
        provenance=Provenance(
            source=f"training run {record.name} before its first step: {record.encoder}, weights {weights!r}",
            source_sha256="0" * 64,
            training_data="none",
            calibration_data="none",
            citation="none",
        ),
        fusion="mean",
    )
    write_model(target, model, spec)
    return spec


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(prog="benchmarks.untrained", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("target", type=Path, metavar="OUT.onnx")
    parser.add_argument("--random", action="store_true", help="random weights in any case")
    arguments = parser.parse_args()
    spec = write_untrained(arguments.run, arguments.target, random=arguments.random)
    print(f"{arguments.target}: {spec.name}, {spec.provenance.source}")


if __name__ == "__main__":
    main()
