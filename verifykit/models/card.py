"""Model cards as Markdown, generated from specifications."""

from __future__ import annotations

from verifykit.spec import ModelSpec, OperatingPoint, Population


def render_card(spec: ModelSpec) -> str:
    """Render the model card: licence, data, input, operating points with their counts, limits.

    Args:
        spec: The specification of the model file.

    Returns:
        Markdown that ends with a line feed; equal specifications give equal text.
    """
    sections = [_facts(spec), _data(spec), _input(spec), _points(spec)]
    sections += [_population(each) for each in spec.populations]
    sections.append(_limits(spec))
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _facts(spec: ModelSpec) -> list[str]:
    return [
        f"# {spec.name}",
        "",
        f"- modality: {spec.modality}",
        f"- licence: {spec.licence}",
        f"- embedding: {spec.embedding_size} values, unit length; a score is a cosine, in [-1, 1]",
        f"- fusion over several templates: {spec.fusion}",
        f"- digest: `{spec.digest}`",
        f"- weights: sha256 `{spec.weights_sha256}`",
    ]


def _data(spec: ModelSpec) -> list[str]:
    origin = spec.provenance
    return [
        "## Where it comes from",
        "",
        f"- source: {origin.source}, sha256 `{origin.source_sha256}`",
        f"- training data: {origin.training_data}",
        f"- calibration data: {origin.calibration_data}",
        f"- citation: {origin.citation}",
    ]


def _input(spec: ModelSpec) -> list[str]:
    values = spec.input
    mean, std = (", ".join(f"{value:g}" for value in part) for part in (values.mean, values.std))
    lines = [
        "## Input",
        "",
        f"- {values.height_px} x {values.width_px} px (height x width), {values.color}",
        f"- (pixel * {values.scale:g} - [{mean}]) / [{std}], pixel in 0..255",
        f"- crop: {spec.crop.kind}",
        f"- mirror image averaged in: {'yes' if values.mirror else 'no'}",
    ]
    detector = spec.crop.detector_spec
    if detector is not None:
        sides = ", ".join(str(side) for side in detector.long_sides_px)
        lines.append(
            f"- detector: {detector.name} ({detector.licence}), score from "
            f"{detector.score_threshold:g}, longer side reduced to {sides} px"
        )
    return lines


# The card shows some numbers of references; the file has all.
_SHOWN_COUNTS = (1, 3, 5, 10)


def _points(spec: ModelSpec) -> list[str]:
    lines = ["## Operating points", ""]
    if not spec.operating_points:
        return [*lines, "None: the model is not calibrated, and every call needs `threshold=`."]
    lines += [
        "| attack | references | FMR | 95 % | threshold | false matches | non-mated comparisons | FNMR |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    counts = {point.reference_count for point in spec.operating_points}
    shown = counts if len(counts) <= len(_SHOWN_COUNTS) else counts & {*_SHOWN_COUNTS}
    chosen = [point for point in spec.operating_points if point.reference_count in shown]
    for point in sorted(chosen, key=lambda p: (p.attack, p.reference_count, -p.fmr)):
        lines.append(
            f"| {point.attack} | {point.reference_count} | {point.fmr:g}{_default_mark(spec, point)} "
            f"| {_interval(point.fmr_interval)} | {point.threshold:.4f} | {point.false_match_count} "
            f"| {point.non_mated_count} | {'' if point.fnmr is None else f'{point.fnmr:.2%}'} |"
        )
    return [
        *lines,
        "",
        (
            "References: with how many of a subject the threshold was measured"
            + ("" if shown == counts else f" (measured for {', '.join(map(str, sorted(counts)))})")
            + f". Scores are fused by `{spec.fusion}`. A decision takes the most that the subject has; "
            "`compare` takes one, `identify` the strictest. 95 %: interval of the rate over subjects. FNMR: "
            "the share of mated comparisons below the threshold, on the same data."
        ),
    ]


_POPULATION_NOTE = (
    "Counts and intervals of a point are those of the band that takes the highest threshold; both FNMR are "
    "those of all mated comparisons, at this threshold and at the usual one for the same rate."
)


def _population(each: Population) -> list[str]:
    fewest = min(point.reference_count for point in each.operating_points)
    lines = [
        f'## Population "{each.name}"',
        "",
        f'{each.description}. Requested by `population="{each.name}"` or `--population {each.name}`.',
        "",
        "| attack | references | FMR | 95 % | threshold | false matches | pairs | FNMR | usual FNMR |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for point, usual in zip(each.operating_points, each.usual_fnmr, strict=True):
        if point.reference_count != fewest:
            continue
        mark = " (default)" if (point.fmr, point.attack) == _default_of(each) else ""
        lines.append(
            f"| {point.attack} | {point.reference_count} | {point.fmr:g}{mark} "
            f"| {_interval(point.fmr_interval)} | {point.threshold:.4f} | {point.false_match_count} "
            f"| {point.non_mated_count} | {_share(point.fnmr)} | {_share(usual)} |"
        )
    if each.bands:
        lines += [
            "",
            f"Measured by band, on {each.bands_data}; both of a pair are of the band:",
            "",
            f"| band | people | pairs | FMR requested | usual FMR | 95 % | FMR of {each.name} | 95 % |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
    for band in each.bands:
        before = "" if band.usual is None else f"{band.usual:.2g}"
        lines.append(
            f"| {band.band} | {band.subject_count} | {band.non_mated_count} | {band.fmr:g} | {before} "
            f"| {_interval(band.usual_interval)} | {band.found:.2g} | {_interval(band.found_interval)} |"
        )
    return [
        *lines,
        "",
        _POPULATION_NOTE,
        *(f"\n- {note}" for note in each.notes[:1]),
        *(f"- {note}" for note in each.notes[1:]),
    ]


def _default_of(each: Population) -> tuple[float | None, str]:
    return each.default_fmr, each.default_attack


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.2g} to {bounds[1]:.2g}"


def _default_mark(spec: ModelSpec, point: OperatingPoint) -> str:
    is_default = (point.fmr, point.attack) == (spec.default_fmr, spec.default_attack)
    return " (default)" if is_default else ""


def _limits(spec: ModelSpec) -> list[str]:
    lines = [
        "## Limits",
        "",
        "- A score is a similarity, not a probability.",
        "- The rates hold for images like the calibration data; on others, measure your own.",
        "- Templates and galleries of a model with another digest are refused, never compared.",
    ]
    for attack in sorted({point.attack for point in spec.operating_points}):
        lowest = min(point.fmr for point in spec.operating_points if point.attack == attack)
        lines.append(
            f"- Not calibrated below FMR {lowest:g} for {attack}: less is refused, not extrapolated."
        )
    if spec.modality == "face":
        lines.append("- No liveness check: a photograph of a person is compared like the person.")
    return lines
