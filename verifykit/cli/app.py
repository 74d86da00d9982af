"""The ``verifykit`` application: every command."""

from __future__ import annotations

from typing import Annotated

import typer

from verifykit.cli import audit, doctor, models, serve
from verifykit.cli.calibrate import calibrate
from verifykit.cli.cluster import cluster
from verifykit.cli.compare import compare
from verifykit.cli.enroll import enroll
from verifykit.cli.evaluate import evaluate
from verifykit.cli.gallery import app as gallery
from verifykit.cli.identify import identify
from verifykit.cli.identify_batch import identify_batch
from verifykit.cli.usage import Commands
from verifykit.cli.verify import verify
from verifykit.cli.watch_scores import watch_scores

app = typer.Typer(
    cls=Commands,
    help=(
        "Verify and identify people by face or handwritten signature, offline. "
        "Exit status: 0 match or done, 1 no match, 2 error, 3 done but not everything was looked at."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(compare)
app.command()(enroll)
app.command()(verify)
app.command()(identify)
app.command("identify-batch")(identify_batch)
app.command()(cluster)
app.command()(evaluate)
app.command()(calibrate)
app.command("watch-scores")(watch_scores)
app.add_typer(gallery.app, name="gallery")
app.add_typer(audit.app, name="audit")
app.add_typer(models.app, name="models")
app.add_typer(serve.app, name="serve")
app.command("doctor")(doctor.doctor)


def _print_version(requested: bool) -> None:
    if requested:
        from verifykit import __version__

        typer.echo(f"verifykit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Hold the options of the program itself."""
