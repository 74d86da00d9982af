"""What a gallery is: enrolled subjects, kept and searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from verifykit.gallery.intake import Entry
from verifykit.types import Candidate, Embeddings, Subject, Template

__all__ = ["Gallery", "OnExisting", "PortableGallery", "TransferReport"]

OnExisting = Literal["append", "error", "skip"]
"""What to do with an entry whose subject is already enrolled."""


@dataclass(frozen=True)
class TransferReport:
    """What was written or stored.

    Attributes:
        subject_count: Subjects written to the file, or stored in the gallery.
        template_count: Their templates.
        skipped_count: Subjects who were enrolled before, with ``on_existing="skip"``.
    """

    subject_count: int
    template_count: int
    skipped_count: int = 0


@runtime_checkable
class Gallery(Protocol):
    """The templates of enrolled subjects; every implementation passes one contract test suite.

    All calls may be made from several threads at once.

    Attributes:
        spec_digest: Digest of the model whose templates it holds; others are refused.
    """

    spec_digest: str

    def add(
        self,
        subject_id: str,
        templates: Sequence[Template],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Enrol templates; a subject who is there already gets them in addition.

        What returns is stored: a gallery on disk has it on the disk. What raises has stored nothing.
        An embedding, its reason codes and the metadata are kept; the place in the image is not.

        Args:
            subject_id: See :func:`~verifykit.gallery.checked_subject_id`.
            templates: At least one, all of this gallery's model.
            metadata: A JSON object that replaces what is stored; None leaves it.

        Raises:
            InputError: No such subject id is possible, no template, or metadata that is not JSON.
            TemplateMismatchError: A template was made by another model.
            TemplateFormatError: A template is of another length.
            GalleryError: It could not be stored, and why.
        """

    def get(self, subject_id: str) -> Subject:
        """What is stored of one subject, templates in the order of enrolment.

        Raises:
            SubjectNotFoundError: Nobody is enrolled under this id.
            InputError: No such subject id is possible.
        """

    def remove(self, subject_id: str) -> int:
        """Erase a subject: templates, metadata and id, not merely flagged.

        Returns:
            The number of templates that were erased.

        Raises:
            SubjectNotFoundError: Nobody is enrolled under this id.
            InputError: No such subject id is possible.
            GalleryError: It could not be erased, and why.
        """

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """The best subjects for each probe.

        Exact, and the same to the last bit whether a probe is searched alone or among others.

        Args:
            probes: (N, D) float32, rows of unit length; N may be 0.
            limit: Most candidates a probe, at least 1.
            threshold: Only scores of at least this much; -1.0 takes everybody.

        Returns:
            One list a probe: one candidate a subject, its templates' scores fused; best first, equal
            scores by subject id.

        Raises:
            TemplateFormatError: Probes of another shape, not finite, or not of unit length.
            InputError: ``limit`` or ``threshold`` is not usable.
        """

    def subject_ids(self) -> Iterator[str]:
        """Ids of all subjects, sorted by code point."""

    def __len__(self) -> int:
        """Number of subjects."""


@runtime_checkable
class PortableGallery(Gallery, Protocol):
    """A gallery that can be exported and imported.

    Attributes:
        embedding_size: D.
        model: Name of the model, for people; may be empty.
    """

    embedding_size: int
    model: str

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        """Store all entries or, if anything raises, none of them.

        Args:
            entries: Checked entries, each subject once; may be a generator, whose errors pass through.
            on_existing: What to do with a subject who was enrolled before.

        Returns:
            How many entries were stored, and how many skipped.

        Raises:
            SubjectExistsError: ``on_existing="error"``, and a subject is there.
            GalleryError: It could not be stored.
        """
