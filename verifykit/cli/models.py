"""``verifykit models``: the models that have a name, and the files that hold them."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from verifykit import models
from verifykit.cli._run import emit
from verifykit.cli.options import JsonOption, NetworkChoice, command
from verifykit.cli.render import columns
from verifykit.encoder import Encoder
from verifykit.session import NetworkOptions

app = typer.Typer(help="List, build, locate, check and describe models.", no_args_is_help=True)

ModelArgument = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="A registered model, or a model file.")
]


@app.command("list")
@command
def list_(as_json: JsonOption = False) -> None:
    """List the registered models, their licences, and whether they are on this machine."""
    found = models.list_models()
    body = [
        {
            "name": each.entry.name,
            "modality": each.entry.modality,
            "licence": each.entry.licence,
            "present": each.present,
            "path": str(each.path),
            "summary": each.entry.summary,
        }
        for each in found
    ]
    rows = [
        (each.entry.name, each.entry.modality, each.entry.licence, _state(each), str(each.path))
        for each in found
    ]
    titles = ("name", "modality", "licence", "state", "path")
    emit({"models": body}, columns(titles, rows), as_json=as_json)


@app.command()
@command
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered model.")],
    again: Annotated[bool, typer.Option("--again", help="Also if it is there already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a registered model now, so that its first use does not have to."""
    path = str(models.pull(name, again=again))
    emit({"name": name, "path": path}, path, as_json=as_json)


@app.command()
@command
def path(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Print the path of a model's file; it may be copied to another machine."""
    found = str(models.resolve(model))
    emit({"model": model, "path": found}, found, as_json=as_json)


@app.command()
@command
def verify(
    model: ModelArgument,
    network: NetworkChoice = NetworkOptions(),
    as_json: JsonOption = False,
) -> None:
    """Check a model's file: checksum, registered digests, and that it reproduces its golden embedding."""
    file = models.verify(model)
    encoder = Encoder.open(file, **dataclasses.asdict(network))
    body = {
        "model": model,
        "path": str(file.path),
        "spec_digest": file.spec.digest,
        "calibration_digest": models.calibration_digest(file.spec),
        "provider": encoder.provider,
    }
    text = (
        f"{model} is sound: its checksum agrees, and it reproduces its golden embedding on "
        f"{encoder.provider}\nspec digest         {file.spec.digest}\n"
        f"calibration digest  {body['calibration_digest']}"
    )
    emit(body, text, as_json=as_json)


@app.command()
@command
def card(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Print a model's card: licence, data, input, operating points, limits."""
    text = models.card(model)
    emit({"model": model, "card": text}, text.rstrip("\n"), as_json=as_json)


def _state(status: models.ModelStatus) -> str:
    if status.present:
        return "ready"
    return "not built yet" if status.entry.builder else "missing"
