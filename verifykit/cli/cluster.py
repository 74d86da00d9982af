"""``verifykit cluster``: group the faces of a folder's images by person."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifykit._files import atomic_write
from verifykit.cli._run import emit, progress, require_complete
from verifykit.cli.options import (
    CalibrationOption,
    EverySample,
    JsonOption,
    MaxPixelsOption,
    ModelOption,
    NetworkChoice,
    PairDecision,
    PopulationOption,
    command,
)
from verifykit.cli.render import counted, rate_text
from verifykit.datasets import left_out_sentences, shown_names
from verifykit.decision import DecisionOptions
from verifykit.errors import InputError, shortened, shown
from verifykit.extraction import SampleOptions
from verifykit.image import MAX_PIXELS
from verifykit.session import NetworkOptions
from verifykit.verifier import open_encoder

if TYPE_CHECKING:
    from verifykit.clustering import Clusters

_NAMED = 5
TITLES = (
    *("image", "face", "cluster"),
    *("left_px", "top_px", "width_px", "height_px"),
    "reasons",
)


@command
def cluster(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Searched with its subfolders.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="CSV, a line a face; replaced.")
    ],
    model: ModelOption = "face",
    decision: PairDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    sample: EverySample = SampleOptions("all"),
    network: NetworkChoice = NetworkOptions(),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Group the faces in all images of a folder by person, without a gallery.

    Writes a line a face: image, number in it, cluster (1 is the largest), box, warnings. An image without a
    usable face has a line with the reason. Without a rate it takes the one at which less than one false
    pair is expected, or the calibration's lowest. Status 0 when it is done, 3 if images, videos or pages in
    the folder were not looked at: the summary names them.
    """
    from verifykit.clustering import cluster_folder

    if not out.parent.is_dir():  # before the long part, not after it
        raise InputError(f"--out {shown(str(out))}: folder {shown(str(out.parent))} does not exist")
    encoder = open_encoder(
        model,
        calibration,
        **dataclasses.asdict(network),
        max_pixels=max_pixels,
        population=population,
    )
    with progress("images") as on_image, progress("faces") as on_face:
        found = cluster_folder(
            encoder,
            folder,
            fmr=decision.fmr,
            threshold=decision.threshold,
            attack=decision.attack,
            **asdict(sample),
            on_image=on_image,
            on_face=on_face,
        )
    atomic_write(out, _table(found).encode(errors="surrogateescape"))
    refused = Counter(each.reason for each in found.refused)
    body = {
        "out": str(out),
        "images": len({face.image for face in found.faces}) + len(found.refused),
        "faces": len(found.faces),
        "clusters": found.cluster_count,
        "sizes": _sizes(found),
        "errors": dict(sorted(refused.items())),
        "left_out": dict(found.left_out),
        "left_out_names": dict(found.left_out_names),
        "overlooked": found.overlooked,
        "threshold": found.rule.threshold,
        "fmr": found.rule.fmr,
        "attack": found.rule.attack,
        "model": encoder.spec.digest,
    }
    emit(body, _text(found, refused, out), as_json=as_json)
    require_complete(found.overlooked)


def _table(found: Clusters) -> str:
    rows: dict[str, list[tuple[object, ...]]] = {}
    for face in found.faces:
        box = ("",) * 4 if face.box_px is None else tuple(f"{side:.1f}" for side in face.box_px)
        row = (face.image, face.face, face.cluster, *box, " ".join(face.reasons))
        rows.setdefault(face.image, []).append(row)
    for each in found.refused:
        rows[each.image] = [(each.image, *("",) * 6, each.reason)]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(TITLES)
    for image in sorted(rows, key=lambda name: name.split("/")):
        writer.writerows(rows[image])
    return table.getvalue()


def _sizes(found: Clusters) -> list[int]:
    counts = Counter(face.cluster for face in found.faces)
    return [counts[label] for label in sorted(counts)]


def _text(found: Clusters, refused: Counter[str], out: Path) -> str:
    sizes = _sizes(found)
    single = sum(size == 1 for size in sizes)
    faces = counted(len(found.faces), "face")
    clusters = counted(found.cluster_count, "cluster")
    lines = [f"{faces} in {clusters}, {single} of them of one face"]
    if sizes and sizes[0] > 1:
        shown = ", ".join(map(str, sizes[:10]))
        lines.append(f"largest    {shown}{', ...' if len(sizes) > 10 else ''}")
    for reason, count in sorted(refused.items()):
        names = [each.image for each in found.refused if each.reason == reason][:_NAMED]
        lines.append(f"{counted(count, 'image')} not usable: {reason}")
        lines.append(f"           {shown_names(names, count)}")
    lines += left_out_sentences(found.left_out, found.left_out_names)
    rule = found.rule
    lines += [
        f"threshold  {rule.threshold:.4f}",
        f"FMR        {rate_text(rule.fmr, rule.attack)}",
    ]
    pairs = len(found.faces) * (len(found.faces) - 1) // 2
    if rule.fmr is not None:
        lines.append(f"expected   {rule.fmr * pairs:.2g} pairs by chance in {pairs:,} comparisons")
    return "\n".join([*lines, f"written to {shortened(out)}"])
