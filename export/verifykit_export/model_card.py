"""The part of a model card that only the export knows: training, proof, rates, size and speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import shortened, shown
from verifykit.spec import OperatingPoint
from verifykit_export.errors import ExportError
from verifykit_export.modelfile import SWAPPED_COSINE
from verifykit_export.parity import LIMIT, Parity
from verifykit_export.precision import Precision
from verifykit_training.evaluation import Verification
from verifykit_training.run_folder import EncoderRecord, TeacherRecord


@dataclass(frozen=True)
class Cost:
    """What a network of some precision costs.

    Attributes:
        precision: Of the network.
        network_bytes: Its size without metadata and detector.
        image_ms: Median time for one image, preprocessing of values included, on two threads.
        times_float32: That time over float32's, measured in turns.
    """

    precision: str
    network_bytes: int
    image_ms: float
    times_float32: float


@dataclass(frozen=True)
class Measured:
    """What was measured while exporting.

    Attributes:
        precision: Of the file.
        opset: Its operator set.
        parity: How far the file is from the network.
        rates: Its error rates on subjects that it was not trained on, unless ``known_subjects``.
        float32_eer: The EER in float32, in [0, 1].
        points: Its operating points for each attack and number of references, with their FNMR.
        costs: Float32 first, then the file's own precision if it is another.
        swapped_cosine: Between the golden image's embeddings with red and blue in order and swapped;
            None for grey.
        file_bytes: Size of the file.
        known_subjects: The rates are of further images of the training subjects.
    """

    precision: Precision
    opset: int
    parity: Parity
    rates: Verification
    float32_eer: float
    points: tuple[OperatingPoint, ...]
    costs: tuple[Cost, ...]
    swapped_cosine: float | None
    file_bytes: int
    known_subjects: bool = False

    @property
    def ignores_color(self) -> bool:
        """Whether a swapped channel order would go unnoticed at load."""
        return self.swapped_cosine is not None and self.swapped_cosine >= SWAPPED_COSINE


def whose(known_subjects: bool) -> str:
    """Return of which subjects the rates are."""
    return (
        "that were trained on with other images" if known_subjects else "that were not trained on"
    )


INT8_NOTE = (
    "int8 embeddings depend on the processor (on x86, whether it has VNNI): scores differ by up to "
    "6e-3"
)

NOISE = (
    "all pairs have almost the same score (standard deviation below 1e-5): the network is hardly trained, "
    "and its error rates are noise"
)


def card_path(target: Path, name: str) -> Path:
    """Return where the card of a model file goes; raise ExportError if that is not possible.

    ``README.onnx`` would have its card in ``README.md``: only a card of the same model is replaced.
    """
    if not target.parent.is_dir():
        raise ExportError(f"there is no folder {shown(str(target.parent))} to write to: make it")
    card = target.with_suffix(".md")
    if card == target:
        raise ExportError(
            f"{shortened(target)} is the name of its card: give the model file the suffix .onnx"
        )
    if card.exists() and not _is_card(card, name):
        raise ExportError(
            f"{shortened(card)} exists and is not the card of a model {shown(name)}: give the model file "
            "another name, or move that file"
        )
    return card


def _is_card(path: Path, name: str) -> bool:
    if not path.is_file():
        return False
    start = path.read_bytes()[:4096].decode(errors="replace")
    return start.startswith(f"# {name}\n\n- modality: ")


def fnmr_text(fnmr: float, interval: tuple[float, float]) -> str:
    """Return the sentence about the FNMR at FMR 0.01, for the card and the terminal."""
    low, high = interval
    within = "within the difference of scores from the network"
    return f"FNMR at FMR 0.01 {fnmr:.2%}; {low:.2%} to {high:.2%} {within}"


def teacher_text(teacher: TeacherRecord) -> str:
    """Return what a model says about a teacher: its terms are those of what it has passed on."""
    return (
        f"{teacher.name} (digest {teacher.digest[:12]}, {teacher.embedding_size} values, licence "
        f"{teacher.licence}), trained on: {teacher.training_data}"
    )


def render_measured(
    record: EncoderRecord, measured: Measured, teachers: Sequence[TeacherRecord] = ()
) -> str:
    """Markdown to follow :func:`verifykit.models.render_card`."""
    sections = [_training(record, teachers), _protocol(measured), _rates(measured)]
    sections += [_references(measured)] if measured.points else []
    sections += [_costs(measured)]
    return "".join("\n" + "\n".join(lines) + "\n" for lines in sections)


def _training(record: EncoderRecord, teachers: Sequence[TeacherRecord]) -> list[str]:
    chosen = (
        "" if record.validation is None else f"; chosen by {record.metric} {record.validation:.2%}"
    )
    return [
        "## Training",
        "",
        f"- encoder: {record.encoder}, weights of epoch {record.epoch}{chosen}",
        f"- {record.trained_images} images of {record.trained_subjects} subjects",
        *(f"- distilled from {teacher_text(each)}" for each in teachers),
    ]


def _protocol(measured: Measured) -> list[str]:
    parity, rates = measured.parity, measured.rates
    lines = [
        "## How it was measured",
        "",
        (
            f"- every pair of {rates.images} images of {rates.subjects} subjects "
            f"{whose(measured.known_subjects)}; validation images, by which the weights were chosen, may be "
            "among them"
        ),
        (
            f"- {rates.mated} mated and {rates.non_mated} non-mated pairs, {rates.skilled} with skilled "
            f"forgeries; {rates.refused} images gave no crop"
        ),
        (
            f"- float32 file against the network in torch: 1 - cosine at most {parity.gap:.1e} on "
            f"{parity.images} crops, allowed {LIMIT:g}; one at a time against seven {parity.batch_gap:.1e}; "
            f"scores at most {parity.score_gap:.1e} apart"
        ),
    ]
    if parity.fnmr is not None and parity.fnmr_interval is not None:
        lines.append(f"- float32 file: {fnmr_text(parity.fnmr, parity.fnmr_interval)}")
    if parity.is_noise:
        lines.append(f"- {NOISE}")
    if parity.reduced_gap is not None:
        lines.append(
            f"- {measured.precision} against float32: 1 - cosine at most {parity.reduced_gap:.1e}"
        )
    if measured.precision == "int8":
        lines.append(f"- {INT8_NOTE}")
    if measured.ignores_color:
        lines.append(
            f"- the golden image with red and blue swapped gives cosine {measured.swapped_cosine:.4f} to "
            "itself: the check at load would not find a swapped channel order"
        )
    return lines


def _rates(measured: Measured) -> list[str]:
    rates = measured.rates
    lines = ["## Error rates", "", f"- EER {rates.eer:.2%}"]
    if measured.precision != "fp32":
        lines[-1] += f", in float32 {measured.float32_eer:.2%}"
    if rates.skilled_eer is not None:
        lines.append(f"- EER against skilled forgeries {rates.skilled_eer:.2%}")
    single = [
        point
        for point in measured.points
        if (point.attack, point.reference_count) == ("random_forgery", 1)
    ]
    if not single:
        return [*lines, "- Too few non-mated pairs for a threshold at any FMR."]
    lines += ["", "Single pairs against random forgeries:", ""]
    lines += ["| threshold | FMR | FNMR |", "| --- | --- | --- |"]
    lines += [
        f"| {point.threshold:.4f} | {_with_interval(point.fmr, point.fmr_interval)} "
        f"| {_with_interval(point.fnmr, point.fnmr_interval)} |"
        for point in single
    ]
    return [*lines, "", "Intervals are 95 %, by drawing subjects again."]


def _references(measured: Measured) -> list[str]:
    ordered = sorted(
        (point.attack, point.fmr, point.reference_count, point.fnmr)
        for point in measured.points
        if point.fnmr is not None
    )
    return [
        "## What each number of references costs",
        "",
        "| attack | FMR | references | FNMR |",
        "| --- | --- | --- | --- |",
        *(f"| {attack} | {fmr:g} | {count} | {fnmr:.2%} |" for attack, fmr, count, fnmr in ordered),
    ]


def _with_interval(rate: float | None, interval: tuple[float, float] | None) -> str:
    if rate is None or interval is None:
        return "not measured"
    return f"{rate:.3%} ({interval[0]:.3%} to {interval[1]:.3%})"


def _costs(measured: Measured) -> list[str]:
    return [
        "## Size and speed",
        "",
        f"- file: {measured.file_bytes} bytes, precision {measured.precision}, opset {measured.opset}",
        "",
        "| network | bytes | ms an image | times float32 |",
        "| --- | --- | --- | --- |",
        *(
            f"| {cost.precision} | {cost.network_bytes} | {cost.image_ms:.2f} "
            f"| {cost.times_float32:.2f} |"
            for cost in measured.costs
        ),
        "",
        "Times are of the machine that exported it, on two threads, the networks in turns.",
    ]
