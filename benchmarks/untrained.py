"""Export the network of a run as it was before the first training step, as a baseline of that run.

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


def write_untrained(run: Path, target: Path, *, random: bool = False) -> ModelSpec:
    """Write the initial network of a run with the run's crop and input, uncalibrated.

    With ``random`` the weights are random even if the run started from pretrained ones.
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
        modality=record.modality,
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
    """Export the untrained network."""
    parser = argparse.ArgumentParser(prog="benchmarks.untrained", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("target", type=Path, metavar="OUT.onnx")
    parser.add_argument(
        "--random",
        action="store_true",
        help="ignore pretrained weights",
    )
    arguments = parser.parse_args()
    spec = write_untrained(arguments.run, arguments.target, random=arguments.random)
    print(f"{arguments.target}: {spec.name}, {spec.provenance.source}")


if __name__ == "__main__":
    main()
