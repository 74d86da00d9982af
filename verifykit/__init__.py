"""Is this the same person's face, or signature, as the one enrolled?

::

    import verifykit as vk

    verifier = vk.Verifier("face", gallery="staff.db")
    verifier.enroll("alice", ["a1.jpg", "a2.jpg"])
    if verifier.verify("alice", "door.jpg"): ...

Every name is imported at its first use, so that ``import verifykit`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import importlib.util

from verifykit import _environment

# Module to the names that it gives; __init__.pyi has the same for type checkers.
_NAMES = {
    "audit": "AuditEntry AuditLog",
    "batch": "identify_batch",
    "calibration": "Calibration",
    "classification": "Classifier",
    "clustering": "cluster_folder",
    "decision": "Policy",
    "errors": "AcquisitionError AuditError CalibrationError ExpiryRefusedError GalleryError "
    "GalleryFormatError GalleryKeyError GalleryLockedError ImageError InputError ModelContractError "
    "ModelError ModelIntegrityError ModelNotFoundError ProviderError SubjectExistsError "
    "SubjectNotFoundError TemplateError TemplateFormatError TemplateMismatchError VerifyKitError",
    "evaluation": "calibrate evaluate",
    "gallery": "Gallery MemoryGallery PostgresGallery SqliteGallery open_gallery",
    "formats": "allow_format",
    "image": "image_from_bgr load_image",
    "privacy": "expire subject_record",
    "reenrollment": "needs_reenroll reenroll",
    "spec": "Evidence ModelSpec OperatingPoint",
    "types": "Candidate Decision Detection EnrollmentReport Identification RefusedImage Subject Template",
    "verifier": "Verifier",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_MODULES)

__version__ = "0.1.0"

# Before onnxruntime is imported, by verifykit or by the application.
_environment.disable_telemetry()


def __getattr__(name: str) -> object:
    if name in _MODULES:
        value = getattr(importlib.import_module(f"verifykit.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and importlib.util.find_spec(f"verifykit.{name}") is not None:
        return importlib.import_module(f"verifykit.{name}")
    raise AttributeError(f"module 'verifykit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
