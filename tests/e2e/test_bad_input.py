"""Bad input to every method: an error of the right class, no decision, an unchanged gallery."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

import verifykit as vk
from tests.helpers.gallery_contents import contents
from verifykit.errors import shortened
from verifykit.image import load_image

Damage = Callable[[bytes, Path], object]


def refused_by_every_verb(
    verifier: vk.Verifier, image: object, good: Path, error: type[vk.VerifyKitError]
) -> vk.VerifyKitError:
    before = contents(verifier)
    attempts: list[Callable[[], object]] = [
        lambda: verifier.verify("person_a", image),
        lambda: verifier.compare(image, good),
        lambda: verifier.compare(good, image),
        lambda: verifier.identify(image),
        lambda: verifier.identify(image, multi_face="largest", quality="warn"),
        lambda: verifier.enroll("newcomer", image),
        lambda: verifier.enroll("person_a", image),
        lambda: verifier.extract(image),
    ]
    for attempt in attempts:
        if isinstance(image, io.IOBase):
            image.seek(0)
        with pytest.raises(error) as caught:
            attempt()
    assert contents(verifier) == before
    return caught.value


def png_header(height: int, width: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def as_png(jpeg: bytes) -> bytes:
    file = io.BytesIO()
    PilImage.open(io.BytesIO(jpeg)).save(file, "PNG", compress_level=1)
    return file.getvalue()


UNREADABLE: dict[str, Damage] = {
    "missing file": lambda _, folder: folder / "missing.jpg",
    "directory": lambda _, folder: folder,
    "zero bytes": lambda _, folder: saved(folder / "zero.jpg", b""),
    "zero bytes in memory": lambda *_: b"",
    "text": lambda _, folder: saved(folder / "text.jpg", b"Dear Sir or Madam,\n" * 99),
    "truncated JPEG": lambda jpeg, folder: saved(folder / "cut.jpg", jpeg[: len(jpeg) * 2 // 3]),
    "JPEG without its end": lambda jpeg, folder: saved(folder / "end.jpg", jpeg[:-2]),
    "truncated PNG": lambda jpeg, folder: saved(folder / "cut.png", as_png(jpeg)[:-50_000]),
    "truncated in a file object": lambda jpeg, _: io.BytesIO(jpeg[:-100]),
    "60,000 x 60,000": lambda _, folder: saved(folder / "huge.png", png_header(60_000, 60_000)),
    "address": lambda *_: "https://example.org/portrait.jpg",
    "NaN": lambda *_: np.full((200, 200, 3), np.nan, np.float32),
    "float array": lambda *_: np.full((200, 200, 3), 0.5),
    "16-bit array": lambda *_: np.zeros((200, 200, 3), np.uint16),
    "four channels": lambda *_: np.zeros((200, 200, 4), np.uint8),
    "empty array": lambda *_: np.zeros((0, 0, 3), np.uint8),
}


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_images(
    verifier: vk.Verifier, portraits: Mapping[str, Path], tmp_path: Path, kind: str
) -> None:
    good = portraits["person_a_2"]
    image = UNREADABLE[kind](good.read_bytes(), tmp_path)
    refused_by_every_verb(verifier, image, good, vk.ImageError)


def test_images_without_a_face(verifier: vk.Verifier, portraits: Mapping[str, Path]) -> None:
    good = portraits["person_a_2"]
    pixels = load_image(portraits["impostor_1"])
    for image in (pixels[-120:], pixels[:1, :1], pixels[:40, :40], np.zeros_like(pixels)):
        error = refused_by_every_verb(verifier, image, good, vk.AcquisitionError)
        assert error.reason == "no_face"


def test_six_faces(verifier: vk.Verifier, portraits: Mapping[str, Path]) -> None:
    names = ("person_a_2", "person_b_2", "impostor_1", "impostor_2", "biden", "obama")
    faces = [PilImage.open(portraits[name]).convert("RGB").resize((360, 400)) for name in names]
    group = np.vstack(
        [np.hstack([np.asarray(portrait) for portrait in row]) for row in (faces[:3], faces[3:])]
    )
    before = contents(verifier)
    for attempt in (
        lambda: verifier.verify("person_a", group),
        lambda: verifier.compare(group, portraits["person_a_2"]),
        lambda: verifier.identify(group),
        lambda: verifier.extract(group),
        lambda: verifier.enroll("newcomer", group),
    ):
        with pytest.raises(vk.AcquisitionError, match="6 faces") as caught:
            attempt()
        assert caught.value.reason == "several_faces"
    assert contents(verifier) == before
    found = verifier.identify(group, multi_face="all")
    assert {candidate.subject_id for candidate in found} == {"person_a", "person_b"}
    assert len(found) == 2


def test_one_bad_image_among_good_ones_is_named(
    verifier: vk.Verifier, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    text = saved(tmp_path / "text.jpg", b"no picture")
    report = verifier.enroll("newcomer", [portraits["impostor_1"], text, b""])
    assert report.template_count == 1
    assert [(r.image, r.reason) for r in report.refused] == [
        (shortened(str(text)), "unreadable"),
        ("image 3", "unreadable"),
    ]


def encoded(portrait: PilImage.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    portrait.save(file, file_format, **options)
    return file.getvalue()


def sixteen_bit(portrait: PilImage.Image) -> bytes:
    values = np.asarray(portrait.convert("L")).astype(np.uint16) * 257
    return encoded(PilImage.fromarray(values), "PNG")


UNUSUAL: dict[str, Callable[[PilImage.Image], bytes]] = {
    "16-bit": sixteen_bit,
    "grey": lambda portrait: encoded(portrait.convert("L"), "JPEG"),
    "CMYK": lambda portrait: encoded(portrait.convert("CMYK"), "JPEG"),
    "palette": lambda portrait: encoded(portrait.quantize(256), "PNG"),
    "alpha": lambda portrait: encoded(portrait.convert("RGBA"), "PNG"),
    "grey with alpha": lambda portrait: encoded(portrait.convert("LA"), "PNG"),
    "WebP": lambda portrait: encoded(portrait, "WEBP"),
    "TIFF": lambda portrait: encoded(portrait, "TIFF"),
    "GIF": lambda portrait: encoded(portrait, "GIF"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_images_work(
    verifier: vk.Verifier, portraits: Mapping[str, Path], kind: str
) -> None:
    plain = verifier.extract(portraits["person_b_2"]).embedding
    with PilImage.open(portraits["person_b_2"]) as portrait:
        image = UNUSUAL[kind](portrait)
    assert float(verifier.extract(image).embedding @ plain) > 0.9
    assert verifier.verify("person_b", image).match
    assert not verifier.verify("person_a", image).match


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_all_eight_exif_orientations_give_one_embedding(
    verifier: vk.Verifier, portraits: Mapping[str, Path], file_format: str
) -> None:
    stored = (
        None,
        PilImage.Transpose.FLIP_LEFT_RIGHT,
        PilImage.Transpose.ROTATE_180,
        PilImage.Transpose.FLIP_TOP_BOTTOM,
        PilImage.Transpose.TRANSPOSE,
        PilImage.Transpose.ROTATE_90,
        PilImage.Transpose.TRANSVERSE,
        PilImage.Transpose.ROTATE_270,
    )
    upright = verifier.extract(portraits["person_a_2"]).embedding
    with PilImage.open(portraits["person_a_2"]) as opened:
        portrait = opened.convert("RGB")
    for orientation, turn in enumerate(stored, start=1):
        exif = PilImage.Exif()
        exif[0x0112] = orientation
        turned = portrait if turn is None else portrait.transpose(turn)
        options = {"quality": 95} if file_format == "JPEG" else {}
        image = encoded(turned, file_format, exif=exif, **options)
        assert float(verifier.extract(image).embedding @ upright) > 0.99, orientation
