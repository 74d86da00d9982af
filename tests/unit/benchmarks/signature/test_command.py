"""Reading, baselines, changed probes and the command, on synthetic scrawls."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from benchmarks.signature import robustness
from benchmarks.signature.__main__ import main
from benchmarks.signature.baselines import SIFT_RATIO, matched_share, measure
from benchmarks.signature.data import embed, read_signatures, read_writers
from benchmarks.signature.protocol import Plan
from benchmarks.signature.rates import Share
from benchmarks.signature.report import ResultTable, markdown, text_of, write_json
from benchmarks.signature.robustness import CHANGES
from benchmarks.signature.tables import Method, by_method
from verifykit.encoder import Encoder
from verifykit.spec import InputSpec, ModelSpec, OperatingPoint, Provenance, SignatureCrop
from verifykit.types import Image
from verifykit_export.modelfile import golden_embedding, weights_digest, write_model
from verifykit_training.errors import DataError

CROP = SignatureCrop(32, 96)
GENUINE, FORGED = 7, 3


def scrawl(writer: int, number: int, forged: bool) -> Image:
    """Draw a line through points of the writer; black on white, 180 x 480 px."""
    own = np.random.default_rng([1, writer]).uniform((24, 24), (456, 156), (9, 2))
    now = np.random.default_rng([2, writer, number, forged])
    points = own + now.normal(0, 12.0 if forged else 4.0, own.shape)
    image = np.full((180, 480, 3), 255, np.uint8)
    line = points.round().astype(np.int32)[:, None]
    return np.asarray(cv2.polylines(image, [line], False, (0, 0, 0), 3), np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write sets ``left`` and ``right`` of two writers each, with one unreadable image."""
    folder = tmp_path_factory.mktemp("signatures")
    rows = ["path,subject,label"]
    for writer in range(4):
        subject = f"{'left' if writer < 2 else 'right'}/{writer}"
        (folder / subject).mkdir(parents=True)
        for number in range(GENUINE + FORGED):
            forged = number >= GENUINE
            path = f"{subject}/{number}.png"
            cv2.imwrite(str(folder / path), scrawl(writer, number, forged))
            rows.append(f"{path},{subject},{'skilled_forgery' if forged else 'genuine'}")
    (folder / "left" / "0" / "0.png").write_bytes(b"")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model whose embedding is the crop reduced to 8 x 24."""
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Add", ["flat", "little"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "reduced",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 1, 32, 96])],
        [helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["n", 192])],
        [numpy_helper.from_array(np.full(192, 1e-3, np.float32), "little")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    values = InputSpec(32, 96, "grey", 1 / 255, (0.0,), (1.0,))
    spec = ModelSpec(
        name="reduced",
        modality="signature",
        input=values,
        crop=CROP,
        embedding_size=192,
        weights_sha256=weights_digest(network),
        golden_embedding=golden_embedding(network, values, may_ignore_color=True),
        licence="Apache-2.0",
        provenance=Provenance("test", "b" * 64, "none", "none", "none"),
        operating_points=(
            OperatingPoint(0.2, 0.9, 100, 20, "skilled_forgery", 5),
            OperatingPoint(0.1, 0.8, 100, 10, "random_forgery"),
        ),
        fusion="mean",
    )
    path = tmp_path_factory.mktemp("models") / "reduced.onnx"
    write_model(path, network, spec)
    return path


def test_a_manifest_is_read_by_set_and_writer(data: Path) -> None:
    signatures = read_signatures(data)
    assert signatures.set_names() == ["left", "right"]
    assert signatures.writers("right") == ["right/2", "right/3"]
    assert (len(signatures.paths), int(signatures.forged.sum())) == (40, 12)
    assert read_signatures(data, sets=["right"]).set_names() == ["right"]
    few = read_signatures(data, limit=1)
    assert [len(few.writers(name)) for name in few.set_names()] == [1, 1]
    with pytest.raises(DataError, match="no set middle"):
        read_signatures(data, sets=["middle"])
    with pytest.raises(DataError, match="no writer is left"):
        read_signatures(data, writers=["unknown"])


def test_without_a_slash_the_folder_is_the_set(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,subject,label\na.png,ann,genuine\n")
    assert read_signatures(tmp_path).sets.tolist() == [tmp_path.name]


def test_writers_come_from_text_json_or_a_run(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("left/0\n\nright/4\n")
    assert read_writers(tmp_path / "names.txt") == {"left/0", "right/4"}
    (tmp_path / "names.json").write_text('["left/0"]')
    assert read_writers(tmp_path / "names.json") == {"left/0"}
    splits = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    (tmp_path / "subjects.json").write_text(json.dumps(splits))
    assert read_writers(tmp_path) == read_writers(tmp_path / "subjects.json") == {"b", "c"}
    with pytest.raises(DataError, match="cannot be read"):
        read_writers(tmp_path / "none.txt")
    (tmp_path / "subjects.json").write_text('{"train": ["a"]}')
    with pytest.raises(DataError, match="contains no writer"):
        read_writers(tmp_path)


def test_embeddings_equal_the_runtimes_and_refusals_are_counted(data: Path, model: Path) -> None:
    encoder, signatures = Encoder.open(model, threads=1), read_signatures(data)
    found = embed(encoder, signatures)
    assert found.reasons() == {"unreadable": 1}
    assert int(found.usable.sum()) == 39
    for number in (3, 30):
        template = encoder.templates(signatures.paths[number])[0]
        assert found.rows[number].tolist() == pytest.approx(template.embedding.tolist(), abs=1e-6)


def test_baselines_measure_what_their_names_say(data: Path) -> None:
    signatures = read_signatures(data)
    baselines = measure(signatures)
    assert int((~baselines.usable).sum()) == 1
    methods = [Method(name, s, baselines.usable) for name, s in baselines.scorers().items()]
    skilled, random = by_method(signatures, methods, Plan(draws=2))

    def eer(name: str, table: ResultTable) -> float:
        (row,) = (row for row in table.rows if row[:2] == ("all", name))
        cell = row[table.columns.index("EER [95 %]")]
        assert isinstance(cell, Share)
        return cell.value

    # All images have white paper of one size, and a crop contains nothing but ink.
    papers = [method.name for method in methods if method.name.startswith("paper")]
    assert len(papers) == 3
    for name in papers:
        assert eer(name, skilled) == eer(name, random) == 0.5
    assert eer("HOG, cosine", random) < 0.1
    assert eer("SIFT matching", random) < 0.3


def test_matches_equal_those_of_opencvs_matcher() -> None:
    generator = np.random.default_rng(0)
    one = generator.integers(0, 120, (30, 128)).astype(np.uint8)
    noise = generator.uniform(0, 1, (20, 128)) * np.linspace(10, 120, 20)[:, None]
    two = np.concatenate([one[:20] + noise, generator.integers(0, 120, (25, 128))]).astype(np.uint8)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    found = matcher.knnMatch(one.astype(np.float32), two.astype(np.float32), k=2)
    good = sum(best.distance < SIFT_RATIO * second.distance for best, second in found)
    assert 0 < good < 30
    assert matched_share(one, two) == pytest.approx(good / 30)
    assert matched_share(one, two[:1]) == matched_share(one[:0], two) == 0.0


def test_changes_do_what_their_names_say() -> None:
    image = scrawl(0, 0, forged=False)
    ink = int((image[:, :, 0] < 128).sum())
    changed = {name: change(image) for name, change in CHANGES.items()}
    assert all(each.dtype == np.uint8 and each.shape[2] == 3 for each in changed.values())
    assert changed["scale 0.7"].shape == (126, 336, 3)
    assert changed["scale 1.4"].shape == (252, 672, 3)
    bar = np.full((40, 200, 3), 255, np.uint8)
    bar[10:15, 20:180] = 0
    for name, width in (("one pixel thicker", 6), ("one pixel thinner", 4)):
        assert (CHANGES[name](bar)[:, 100, 0] == 0).sum() == width
    for name in ("turned by +10°", "turned by -10°"):
        assert int((changed[name][:, :, 0] < 128).sum()) == pytest.approx(ink, rel=0.05)
        assert (changed[name][0] == 255).all()
    assert changed["blue ink"].min(axis=(0, 1)).tolist() == [40, 60, 160]
    assert changed["ruled lines"].mean() < image.mean()
    assert changed["grey paper"].max() < 255 * 0.87
    assert int(changed["grey paper"][0, 0, 0]) > int(changed["grey paper"][-1, -1, 0])


def test_tables_in_three_forms(tmp_path: Path) -> None:
    cells = ("a|b", 3, 0.123456, Share(0.1234, 0.1, 0.2), None)
    assert [*map(text_of, cells)] == ["a|b", "3", "0.123", "12.3 % [10.0, 20.0]", "-"]
    table = ResultTable("t", ("p", "q", "r", "s", "t"), (cells,), "how")
    write_json(tmp_path / "t.json", ["line"], [table])
    (row,) = json.loads((tmp_path / "t.json").read_text())["tables"][0]["rows"]
    assert row["s"] == {"value": 0.1234, "low": 0.1, "high": 0.2}
    assert (row["r"], row["t"]) == (0.123456, None)
    assert "| 3 | 0.123 | 12.3 % [10.0, 20.0] | - |" in markdown(["line"], [table])


def test_the_command_prints_and_writes_every_table(
    data: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = {name: CHANGES[name] for name in ("scale 1.4", "ruled lines")}
    monkeypatch.setattr(robustness, "CHANGES", few)
    files = [tmp_path / "out.json", tmp_path / "out.md"]
    arguments = ["--data", str(data), "--model", str(model), "--untrained", str(model)]
    arguments += [
        "--robustness",
        "--draws",
        "2",
        "--json",
        str(files[0]),
        "--markdown",
        str(files[1]),
    ]
    main(arguments)
    printed = capsys.readouterr().out
    assert "writers that a model was trained on may be among them" in printed
    body = json.loads(files[0].read_text(encoding="utf-8"))
    titles = [table["title"] for table in body["tables"]]
    assert titles == [
        "reduced: skilled forgeries, by number of references",
        "reduced: random forgeries, by number of references",
        "reduced: single pairs",
        "reduced: its own thresholds, 5 references",
        "reduced: skilled EER with changed probes, 5 clean references",
        "Models and baselines: skilled forgeries, 5 references",
        "Models and baselines: random forgeries, 5 references",
        "Failures to acquire",
        "Cost of an image",
    ]
    assert all(f"## {title}" in files[1].read_text(encoding="utf-8") for title in titles)
    tables = {table["title"]: table["rows"] for table in body["tables"]}
    five = {r["set"]: r for r in tables[titles[0]] if r["references"] == 5}
    ten = {r["set"]: r for r in tables[titles[0]] if r["references"] == 10}
    # Seven genuine signatures a writer, one of them unreadable: two or one are left as probes.
    assert (five["left"]["genuine"], five["left"]["forged"]) == (3, 6)
    random = {r["set"]: r["forged"] for r in tables[titles[1]] if r["references"] == 5}
    assert random["left"] == 13
    assert (five["all"]["writers"], ten["all"]["writers"]) == (4, 0)
    changed = tables[titles[4]]
    assert [row["change"] for row in changed] == ["none", *few]
    assert changed[0]["all [95 %]"] == five["all"]["EER [95 %]"]
    points = tables[titles[3]]
    assert {row["FMR asked"] for row in points} == {"0.2"}
    refused = {(r["model"], r["set"]): r["genuine, refused"] for r in tables["Failures to acquire"]}
    assert refused["reduced", "left"] == "unreadable: 1"
    assert refused["baselines", "right"] == "none"


def test_a_wrong_argument_is_reported(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data", str(data), "--model", "nothing.onnx"])
    assert "nothing.onnx" in capsys.readouterr().err
