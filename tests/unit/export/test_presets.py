"""Encoders that users bring are imported by the name of their publisher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from verifykit import models
from verifykit.encoder import Encoder
from verifykit.evaluation import calibrate

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import torch

from tests.unit.export.commands import command, refused
from tests.unit.export.published_files import (
    adaface,
    buffalo,
    export,
    iresnet,
    tiny,
    write_adaface,
    write_insightface,
    write_mxnet,
    write_zip,
)
from tests.unit.training.drawing import draw_folder
from verifykit_export import presets
from verifykit_export.presets import PRESETS, Preset

pytestmark = pytest.mark.usefixtures("one_thread")

# insightface's ``arcface_src``: x and y of the subject's right and left eye, nose, right and left corner of
# the mouth, on 112 x 112 px.
TEMPLATE = [
    [38.2946, 51.6963],
    [73.5318, 51.5014],
    [56.0252, 71.7366],
    [41.5493, 92.3655],
    [70.7299, 92.2041],
]
NON_COMMERCIAL = "LicenseRef-insightface-non-commercial"


@pytest.fixture(scope="module")
def arcface_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like ``w600k_r50.onnx``, of 18 layers."""
    path = tmp_path_factory.mktemp("arcface") / "w600k_r50.onnx"
    return write_insightface(path, iresnet())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / "mine.onnx"


@pytest.fixture
def face(portraits: Mapping[str, Path], tmp_path: Path) -> Path:
    """A portrait whose face is less than twice as large as the crop, without losses of JPEG."""
    path = tmp_path / "face.png"
    image = cv2.imread(str(portraits["person_a_1"]))
    factor = 240 / max(image.shape[:2])
    cv2.imwrite(
        str(path), cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    )
    return path


def insightface_crop(path: Path, encoder: Encoder) -> NDArray[np.uint8]:
    """What ``face_align.norm_crop`` cuts out of an image, BGR: written from its description, in cv2 alone."""
    detection = encoder.templates(path)[0].detection
    assert detection is not None
    rows, values = [], []
    for (x, y), (u, v) in zip(detection.landmarks_px, TEMPLATE, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    (a, b, right, down), *_ = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)
    matrix = np.array([[a, -b, right], [b, a, down]])
    return np.asarray(cv2.warpAffine(cv2.imread(str(path)), matrix, (112, 112), borderValue=0.0))


def original_row(source: Path, blob: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    row = session.run(None, {session.get_inputs()[0].name: blob})[0][0]
    return np.asarray(row / np.linalg.norm(row))


def test_an_arcface_file_answers_as_in_insightface(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arcface_file: Path,
    face: Path,
    target: Path,
) -> None:
    options = ("--preset", "arcface", "--licence", NON_COMMERCIAL)
    assert command(monkeypatch, "import", arcface_file, target, *options) == 0
    printed = capsys.readouterr().out
    assert "for non-commercial research only" in printed
    assert printed.endswith("every call needs --threshold\n")
    encoder = Encoder.open(target)
    spec = encoder.spec
    assert (spec.modality, spec.fusion, spec.licence) == ("face", "mean", NON_COMMERCIAL)
    assert (spec.input.color, spec.crop.kind) == ("rgb", "five_point")

    crop = insightface_crop(face, encoder)
    # ArcFaceONNX.get_feat
    blob = cv2.dnn.blobFromImages([crop], 1 / 127.5, (112, 112), (127.5,) * 3, swapRB=True)
    found = encoder.templates(face)[0].embedding
    assert float(found @ original_row(arcface_file, blob)) == pytest.approx(1.0, abs=1e-5)
    # Blue and red swapped, or another scale, would be far off.
    swapped = cv2.dnn.blobFromImages([crop], 1 / 127.5, (112, 112), (127.5,) * 3, swapRB=False)
    assert float(found @ original_row(arcface_file, swapped)) < 0.999
    card = target.with_suffix(".md").read_text()
    assert "- preset: ArcFace, as insightface publishes it" in card
    assert "for non-commercial research only" in card


def test_a_file_of_mxnet_scales_its_pixels_itself(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arcface_file: Path,
    face: Path,
    target: Path,
    tmp_path: Path,
) -> None:
    source = write_mxnet(tmp_path / "arcfaceresnet100-8.onnx", arcface_file)
    options = ("--preset", "arcface", "--licence", "Apache-2.0")
    assert command(monkeypatch, "import", source, target, *options) == 0
    assert "the file scales its pixels itself" in capsys.readouterr().out
    encoder = Encoder.open(target)
    crop = insightface_crop(face, encoder)
    blob = cv2.dnn.blobFromImages([crop], 1.0, (112, 112), (0.0,) * 3, swapRB=True)
    found = encoder.templates(face)[0].embedding
    assert float(found @ original_row(source, blob)) == pytest.approx(1.0, abs=1e-5)


def adaface_row(network: torch.nn.Module, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """AdaFace's ``to_input`` on a crop in RGB, and its network."""
    rgb = crop[..., ::-1]
    bgr = ((rgb[:, :, ::-1] / 255.0) - 0.5) / 0.5
    with torch.inference_mode():
        feature, _ = network(torch.tensor(np.array([bgr.transpose(2, 0, 1)])).float())
    return np.asarray(feature[0].numpy())


@pytest.mark.parametrize("form", ["checkpoint", "onnx"])
def test_an_adaface_network_answers_as_in_its_authors_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    face: Path,
    target: Path,
    tmp_path: Path,
    form: str,
) -> None:
    network = adaface()
    if form == "checkpoint":
        source = write_adaface(tmp_path / "adaface_ir18_webface4m.ckpt", network.state_dict())
    else:  # adaonnx.py names one of two outputs
        axes = {"input": {0: "batch_size"}, "output": {0: "batch_size"}}
        source = export(
            network,
            tmp_path / "adaface.onnx",
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=axes,
        )
        assert len(onnx.load(source).graph.output) == 2
    options = ("--preset", "adaface", "--licence", "LicenseRef-adaface-weights")
    assert command(monkeypatch, "import", source, target, *options) == 0
    assert "Michigan State University" in capsys.readouterr().out
    encoder = Encoder.open(target)
    assert encoder.spec.input.color == "bgr"
    expected = adaface_row(network, insightface_crop(face, encoder))
    found = encoder.templates(face)[0].embedding
    assert float(found @ expected) == pytest.approx(1.0, abs=1e-5)


def test_auraface_is_found_in_its_archive(
    monkeypatch: pytest.MonkeyPatch, target: Path, tmp_path: Path
) -> None:
    members = buffalo({"auraface/glintr100.onnx": tiny(112)})
    members["__MACOSX/auraface/._glintr100.onnx"] = b"what a Mac stores"
    members["auraface/cut.onnx"] = tiny(112)[:60]
    source = write_zip(tmp_path / "auraface.zip", members)
    options = ("--preset", "auraface", "--licence", "Apache-2.0")
    assert command(monkeypatch, "import", source, target, *options) == 0
    spec = models.load(target).spec
    assert (spec.name, spec.licence, spec.embedding_size) == ("mine", "Apache-2.0", 512)
    assert spec.provenance.source == "fal/AuraFace-v1, glintr100.onnx"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_without_a_licence_an_import_is_refused_with_what_the_publisher_states(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: Path,
    tmp_path: Path,
    name: str,
) -> None:
    status = command(monkeypatch, "import", tmp_path / "any.onnx", target, "--preset", name)
    hint = PRESETS[name].licence_hint
    refused(
        capsys, status, target, because=f"--licence must be given, the terms of the weights. {hint}"
    )


@pytest.mark.parametrize(
    ("members", "more", "because"),
    [
        (
            buffalo({"a.onnx": tiny(112), "b/c.onnx": tiny(112, seed=1)}),
            (),
            "as insightface publishes it has: a.onnx, b/c.onnx; choose one with --member NAME",
        ),
        (buffalo({}), (), "det_10g.onnx (input ?x3x?x?, 9 output(s))"),
        ({"inswapper_128.onnx": tiny(112, inputs=2)}, (), "no network of the form"),
        ({"small.onnx": tiny(112, values=128)}, (), "no network of the form"),
        (buffalo({}), ("--member", "x.onnx"), "has no such member, it has det_10g.onnx"),
        (
            buffalo({}),
            ("--member", "genderage.onnx"),
            "take (N, 3, 112, 112), this network takes (N, 3, 96, 96)",
        ),
        ({"notes.txt": b"none"}, (), "it has none"),
    ],
)
def test_an_archive_without_one_recognition_network_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: Path,
    tmp_path: Path,
    members: Mapping[str, bytes],
    more: tuple[object, ...],
    because: str,
) -> None:
    source = write_zip(tmp_path / "pack.zip", members)
    options = ("--preset", "arcface", "--licence", NON_COMMERCIAL)
    status = command(monkeypatch, "import", source, target, *options, *more)
    refused(capsys, status, target, because=because)


@pytest.mark.parametrize(
    ("members", "more", "name"),
    [
        # Of two of one form, the publisher's name decides.
        (
            buffalo({"w600k_mbf.onnx": tiny(112), "copy.onnx": tiny(112, seed=1)}),
            (),
            "w600k_mbf.onnx",
        ),
        (
            buffalo({"a.onnx": tiny(112), "b.onnx": tiny(112, seed=1)}),
            ("--member", "b.onnx"),
            "b.onnx",
        ),
    ],
)
def test_one_of_several_networks_is_chosen_by_name(
    monkeypatch: pytest.MonkeyPatch,
    target: Path,
    tmp_path: Path,
    members: Mapping[str, bytes],
    more: tuple[object, ...],
    name: str,
) -> None:
    source = write_zip(tmp_path / "pack.zip", members)
    options = ("--preset", "arcface", "--licence", NON_COMMERCIAL)
    assert command(monkeypatch, "import", source, target, *options, *more) == 0
    found = models.load(target).spec.provenance.source_sha256
    assert found == hashlib.sha256(members[name]).hexdigest()


@pytest.mark.parametrize(
    ("more", "because"),
    [
        (
            ("--preset", "facenet"),
            "--preset 'facenet' is unknown: one of adaface, arcface, auraface",
        ),
        (("--preset", "arcface", "--color", "bgr"), "--color bgr was given, the preset has rgb"),
        (("--preset", "arcface", "--mean", "0,0,0"), "the preset has (127.5, 127.5, 127.5)"),
        (("--preset", "arcface", "--height", 160), "take 112 x 112 px"),
        (("--preset", "arcface", "--cohort", 20), "--cohort is for a calibration: give --data"),
        (("--preset", "arcface", "--calibrate"), "--calibrate takes --data"),
        (("--preset", "arcface", "--member", "x"), "is not an archive of ONNX files"),
        ((), "--modality, --color, --mean, --std, --crop, --source must be given"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: Path,
    tmp_path: Path,
    more: tuple[object, ...],
    because: str,
) -> None:
    source = tmp_path / "theirs.onnx"
    source.write_bytes(tiny(112))
    status = command(monkeypatch, "import", source, target, "--licence", NON_COMMERCIAL, *more)
    refused(capsys, status, target, because=because)


@pytest.mark.parametrize(
    ("name", "more", "because"),
    [
        ("none.ckpt", (), "is not a file"),
        ("none.onnx", (), "is not a file"),
        ("there.ckpt", ("--member", "x"), "is not an archive of ONNX files; leave it out"),
    ],
)
def test_a_file_that_is_missing_and_a_member_of_a_checkpoint_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: Path,
    tmp_path: Path,
    name: str,
    more: tuple[str, ...],
    because: str,
) -> None:
    (tmp_path / "there.ckpt").write_bytes(b"x")
    how = ("--preset", "adaface", "--licence", NON_COMMERCIAL, *more)
    status = command(monkeypatch, "import", tmp_path / name, target, *how)
    refused(capsys, status, target, because=because)


def test_a_checkpoint_needs_a_preset_that_reads_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: Path,
    tmp_path: Path,
) -> None:
    source = tmp_path / "backbone.pth"
    source.write_bytes(b"")
    options = ("--preset", "arcface", "--licence", NON_COMMERCIAL)
    status = command(monkeypatch, "import", source, target, *options)
    refused(capsys, status, target, because="give --preset adaface for one of AdaFace")


@pytest.fixture
def drawn_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset of one's own is one entry of a mapping."""
    own = Preset(
        title="an encoder of this test",
        color="rgb",
        licence_hint="Its author allows everything: --licence MIT",
        source="a test",
        training_data="nothing",
        citation="none",
        modality="plain",
        crop="plain",
        size_px=32,
        embedding_size=64,
    )
    monkeypatch.setattr(presets, "PRESETS", {**PRESETS, "drawn": own})


def _drawn_people(
    tmp_path: Path, *, subjects: int, images: int
) -> tuple[Path, Path, tuple[object, ...]]:
    """Return a folder of people, an encoder for them, and the options of its import."""
    people = draw_folder(tmp_path / "people", subjects=subjects, images=images)
    source = tmp_path / "theirs.onnx"
    source.write_bytes(tiny(32, values=64))
    return people, source, ("--preset", "drawn", "--licence", "MIT", "--data", people)


@pytest.mark.usefixtures("drawn_preset")
def test_an_import_is_calibrated_on_the_users_images_with_a_cohort(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: Path,
    tmp_path: Path,
) -> None:
    people, source, options = _drawn_people(tmp_path, subjects=40, images=4)
    texts = ("--cohort", 16, "--population", "drawn people")
    assert command(monkeypatch, "import", source, target, *options, *texts, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["real_images"] == 64
    spec = models.load(target).spec
    assert len(report["operating_points"]) == len(spec.operating_points) > 0
    # 24 subjects of 4 images are left: 4416 comparisons of two subjects.
    single = [point for point in spec.operating_points if point.reference_count == 1]
    assert {point.non_mated_count for point in single} == {24 * 23 // 2 * 16}
    assert spec.cohort is not None
    assert spec.population == "drawn people"
    assert spec.provenance.calibration_data.startswith("people: 96 images of 24 subjects")
    assert "those of the operating points" in target.with_suffix(".md").read_text()
    # The same command of the runtime measures the same.
    bare = target.with_name("bare.onnx")
    assert command(monkeypatch, "import", source, bare, *options, "--no-calibrate") == 0
    assert models.load(bare).spec.operating_points == ()
    again = calibrate(bare, people, cohort=16)
    assert again.operating_points == spec.operating_points


@pytest.mark.usefixtures("drawn_preset")
def test_data_that_support_no_rate_write_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: Path,
    tmp_path: Path,
) -> None:
    _, source, options = _drawn_people(tmp_path, subjects=3, images=2)
    status = command(monkeypatch, "import", source, target, *options)
    refused(capsys, status, target, because="take more subjects; or give --no-calibrate")


def test_the_page_states_every_preset() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "import-a-published-encoder.md"
    text = page.read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        assert text.count(f"| `{name}` |") == 2  # of its form, and of its licence
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert preset.color in row.lower()
        assert f"{preset.embedding_size} values" in row
        for file_name in preset.file_names:
            assert file_name in row
