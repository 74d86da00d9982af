"""``verifykit gallery look-alikes``: whom could a subject be taken for?"""

from __future__ import annotations

from verifykit.cli._run import emit, progress
from verifykit.cli.gallery.opening import GalleryArgument
from verifykit.cli.options import (
    CalibrationOption,
    JsonOption,
    KeyFileOption,
    ModelOption,
    NetworkChoice,
    PairDecision,
    PopulationOption,
    command,
    gallery_key,
    open_reader,
)
from verifykit.cli.render import columns, counted
from verifykit.decision import DecisionOptions
from verifykit.errors import CalibrationError
from verifykit.gallery import searcher, shown_location
from verifykit.gallery.duplicates import count_look_alikes, find_duplicates, read_enrolled
from verifykit.session import NetworkOptions


@command
def look_alikes(
    gallery: GalleryArgument,
    model: ModelOption = "face",
    decision: PairDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    network: NetworkChoice = NetworkOptions(),
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List subjects with the number of others who nearly reach the threshold, or do.

    Nearly is the threshold of ten times the rate. Every subject is compared with every other. Other images of
    look-alikes are likelier to reach the threshold than those of any two subjects.
    """
    opened = open_reader(
        model,
        gallery,
        network=network,
        calibration=calibration,
        population=population,
        key=gallery_key(key_file),
    )
    near = decision.margin_threshold(opened.spec, DecisionOptions())
    threshold = decision.pair_threshold(opened.spec, DecisionOptions())
    if near is None or threshold is None:
        raise CalibrationError(
            "the model is not calibrated for random forgeries, so there is no margin: calibrate it on your "
            "own images (verifykit calibrate)"
        )
    enrolled = read_enrolled(opened.gallery)
    with progress("look-alikes") as on_template:
        pairs = find_duplicates(
            opened.gallery,
            near,
            search=searcher(opened.gallery, opened.spec),
            enrolled=enrolled,
            on_template=on_template,
        )
    subjects = count_look_alikes(pairs)
    count = len(enrolled.subject_ids)
    body = {
        "gallery": shown_location(gallery),
        "subjects": [each.to_dict() for each in subjects],
        "subject_count": count,
        "pair_count": len(pairs),
        "near_threshold": near,
        "threshold": threshold,
        "model": opened.spec.digest,
    }
    lines = [
        f"{counted(len(subjects), 'subject')} of {count} with look-alikes, {counted(len(pairs), 'pair')}"
    ]
    if subjects:
        rows = [
            (each.subject_id, str(each.count), each.nearest_id, f"{each.score:.4f}")
            for each in subjects
        ]
        lines.append(columns(("subject", "others", "nearest", "score"), rows))
    lines += [f"near       {near:.4f}", f"threshold  {threshold:.4f}"]
    emit(body, "\n".join(lines), as_json=as_json)
