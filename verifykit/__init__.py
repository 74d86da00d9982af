"""Is this the same person's face, or signature, as the one enrolled?

::

    import verifykit as vk

    verifier = vk.Verifier("face", gallery="staff.db")
    verifier.enroll("alice", ["a1.jpg", "a2.jpg"])
    if verifier.verify("alice", "door.jpg"): ...
"""

from __future__ import annotations

from verifykit.audit import AuditEntry, AuditLog
from verifykit.calibration import Calibration
from verifykit.decision import Policy
from verifykit.errors import (
    AcquisitionError,
    AuditError,
    CalibrationError,
    GalleryError,
    GalleryFormatError,
    GalleryKeyError,
    GalleryLockedError,
    ImageError,
    InputError,
    ModelContractError,
    ModelError,
    ModelIntegrityError,
    ModelNotFoundError,
    ProviderError,
    SubjectExistsError,
    SubjectNotFoundError,
    TemplateError,
    TemplateFormatError,
    TemplateMismatchError,
    VerifyKitError,
)
from verifykit.gallery import Gallery, MemoryGallery, SqliteGallery
from verifykit.image import load_image
from verifykit.reenrollment import needs_reenroll
from verifykit.spec import Evidence, ModelSpec, OperatingPoint
from verifykit.types import (
    Candidate,
    Decision,
    Detection,
    EnrollmentReport,
    Identification,
    RefusedImage,
    Subject,
    Template,
)
from verifykit.verifier import Verifier

__all__ = [
    "AcquisitionError",
    "AuditEntry",
    "AuditError",
    "AuditLog",
    "Calibration",
    "CalibrationError",
    "Candidate",
    "Decision",
    "Detection",
    "EnrollmentReport",
    "Evidence",
    "Gallery",
    "GalleryError",
    "GalleryFormatError",
    "GalleryKeyError",
    "GalleryLockedError",
    "Identification",
    "ImageError",
    "InputError",
    "MemoryGallery",
    "ModelContractError",
    "ModelError",
    "ModelIntegrityError",
    "ModelNotFoundError",
    "ModelSpec",
    "OperatingPoint",
    "Policy",
    "ProviderError",
    "RefusedImage",
    "SqliteGallery",
    "Subject",
    "SubjectExistsError",
    "SubjectNotFoundError",
    "Template",
    "TemplateError",
    "TemplateFormatError",
    "TemplateMismatchError",
    "Verifier",
    "VerifyKitError",
    "load_image",
    "needs_reenroll",
]


__version__ = "0.1.0"
