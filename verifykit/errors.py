"""Every error that verifykit raises on purpose.

::

    VerifyKitError
    ├ InputError(ValueError)      ImageError(reason) · AcquisitionError(reason)
    ├ TemplateError               TemplateFormatError · TemplateMismatchError
    ├ GalleryError                SubjectNotFoundError(KeyError) · SubjectExistsError · GalleryFormatError ·
    │                             GalleryLockedError · GalleryKeyError
    ├ ModelError                  ModelNotFoundError · ModelIntegrityError · ModelContractError
    ├ ExpiryRefusedError(reason)  the clock or the number of those to be erased is not plausible
    ├ AuditError                  not an audit log, damaged, or cannot be written
    ├ CalibrationError            not calibrated, or not down to that FMR
    └ ProviderError(RuntimeError) requested and not available

A non-match is a result, never an exception; a sample that cannot be used is an exception, never a
non-match.
"""

from __future__ import annotations

import functools
import os

_MOST_SHOWN, _HEAD_SHOWN = 80, 24


def shortened(value: object) -> str:
    """Return a text, or the text of a path, of at most 80 characters; its middle is left out.

    What cannot be printed is escaped. Whatever comes from a caller passes through here, or through
    :func:`shown`, before it enters a message, a report or a log: it may be the encoded image of a person.
    """
    text = str(value)
    if (
        not text.isprintable()
    ):  # a line break, a terminal's control sequence, a name that is not UTF-8
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    if len(text) <= _MOST_SHOWN:
        return text
    tail = _MOST_SHOWN - _HEAD_SHOWN - 3
    return f"{text[:_HEAD_SHOWN]}...{text[-tail:]}"


def shortened_path(error: Exception) -> Exception:
    """Shorten the path that an error of the system names; as a cause it is in tracebacks."""
    if isinstance(error, OSError) and isinstance(error.filename, (str, bytes)):
        error.filename = shortened(os.fsdecode(error.filename))
    return error


def shown(value: object) -> str:
    """Return the ``repr`` of a caller's value for a message, of at most 80 characters."""
    return shortened(repr(value))


class VerifyKitError(Exception):
    """The root: catch this to catch everything that verifykit raises on purpose."""


class InputError(VerifyKitError, ValueError):
    """An argument or a sample is not usable as it is."""


class _ReasonedError(InputError):
    """An input error with a reason code."""

    def __init__(self, message: str, *, reason: str, warnings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.warnings = warnings

    def __reduce__(self) -> tuple[object, ...]:
        again = functools.partial(type(self), reason=self.reason, warnings=self.warnings)
        return (again, (str(self),))


class ImageError(_ReasonedError):
    """These bytes, this path or this array is not a readable image within the limits.

    Attributes:
        reason: The reason code, ``"unreadable"``; stable, for programs to branch on.
        warnings: What else is to be known about the image; empty.
    """

    def __init__(
        self, message: str, *, reason: str = "unreadable", warnings: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, reason=reason, warnings=warnings)


class AcquisitionError(_ReasonedError):
    """The image was read, but holds no usable sample: no face, several faces, a blank page.

    Attributes:
        reason: The reason code, for example ``"no_face"`` or ``"several_faces"``; stable, for
            programs to branch on.
        warnings: What else is to be known about the image, such as ``"further_frames"``.
    """


class TemplateError(VerifyKitError):
    """Something is wrong with a template."""


class TemplateFormatError(TemplateError, ValueError):
    """The embedding has another length, another type, is not finite or is not of unit length."""


class TemplateMismatchError(TemplateError):
    """The template or the gallery was made by another model: never compared, enroll again."""


class GalleryError(VerifyKitError):
    """The gallery could not do what was requested."""


class SubjectNotFoundError(GalleryError, KeyError):
    """The subject is not enrolled."""

    def __str__(self) -> str:  # KeyError would print the message's repr
        return Exception.__str__(self)


class SubjectExistsError(GalleryError):
    """This subject id is enrolled already, and only a new one was requested."""


class GalleryFormatError(GalleryError):
    """The file is not a verifykit gallery, is damaged, or is of a newer schema."""


class GalleryLockedError(GalleryError):
    """Another process holds the gallery's write lock for longer than the timeout."""


class GalleryKeyError(GalleryError):
    """The gallery is encrypted with another key, or no key was given, or the key cannot be read."""


class ModelError(VerifyKitError):
    """Something is wrong with a model."""


class ModelNotFoundError(ModelError):
    """No such model name or file, or what it takes to build it is not installed."""


class ModelIntegrityError(ModelError):
    """The file's bytes are not those that were written: damaged, truncated or replaced."""


class ModelContractError(ModelError):
    """The model has no specification, or does not behave as its specification says."""


class ExpiryRefusedError(VerifyKitError):
    """An erasure by age was refused, and nothing was erased: the clock or the number is not plausible.

    Attributes:
        reason: ``"clock_behind"``, ``"clock_ahead"``, ``"impossible_time"`` or ``"too_many"``; stable, for
            programs to branch on.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return (functools.partial(type(self), reason=self.reason), (str(self),))


class AuditError(VerifyKitError):
    """The audit log cannot be read or written, is damaged, or is another file; nothing was logged."""


class CalibrationError(VerifyKitError):
    """The model is not calibrated, or not down to the false match rate that was requested."""


class ProviderError(VerifyKitError, RuntimeError):
    """An execution provider was requested and is not available, or failed."""
