"""The settings of the service, validated before anything is opened."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from verifykit._cpus import available_cpus
from verifykit.audit.log import log_path
from verifykit.drift.state import scores_path
from verifykit.errors import InputError, shown
from verifykit.expiry_check import MAX_SHARE, require_share
from verifykit.extraction import SampleOptions
from verifykit.gallery import KeySource
from verifykit.gallery.open import gallery_path
from verifykit.server.state import state_path
from verifykit.session import Precision, Provider
from verifykit.types import MultiFace, QualityGate, TurnedChoice

SIGNATURES = "signature"
"""The model and the modality of ``signatures``."""


@dataclass(frozen=True)
class ServerSettings:
    """The options of ``verifykit serve``.

    Attributes:
        gallery: The file or the ``postgresql://`` URL of the default model's gallery.
        key: Key of encrypted galleries in files: see :class:`~verifykit.SqliteGallery`.
        model: The default model, a registered name or a model file: it answers requests that name no model.
        models: Further models with their galleries: pairs of a registered name or a model file, and a file
            or a URL.
        calibration: File of thresholds in place of the default model's own, or None.
        fmr: False match rate of the default model's decisions, in (0, 1); None takes the model's default.
        population: Name of the default model's thresholds for other people, such as ``"any"``; None takes the
            usual ones.
        signatures: Gallery of the model ``signature``, unless the default model is one of signatures; None
            is ``staff.signatures.db`` next to ``staff.db``, and no such model if the gallery is not a file
            or if there are ``models``.
        with_signatures: Whether to apply ``signatures``.
        host: Address to listen at; beyond loopback only with API keys.
        port: TCP port; 0 takes a free one.
        state: SQLite file of API keys and idempotency records; None is ``<gallery>.server``.
        audit: The audit log; None is ``<gallery>.audit.jsonl``.
        multi_face: What to do with several faces, unless a request says otherwise.
        quality: Whether a quality reason refuses or warns, unless a request says otherwise.
        turned: Whether a turned face is turned upright or refused, unless a request says otherwise.
        max_faces: Number of faces of one image that are used, the largest, unless a request says otherwise.
        second_face_share: Share of the largest face's area from which a second face counts, unless a request
            says otherwise.
        providers: Where the networks run.
        threads: Threads of one network run; None is each worker's share of the cores, at least one.
        precision: ``"bf16"`` runs the encoders in bfloat16, on OpenVINO.
        workers: Number of requests that are processed at the same time; None is two for each core.
        queue: Number of requests that may wait for a worker; more are answered 503.
        max_body_bytes: Maximum size of a request's body.
        max_images: Maximum number of images of one enrolment.
        max_pixels: Maximum height x width of an image.
        rate_per_minute: Maximum number of requests of one API key (of one address without keys) in a
            minute; 0 is no limit.
        failed_verifications: Maximum number of non-matches of one subject in fifteen minutes; 0 is no limit.
        cors: Other origins whose pages may call the API: ``https://desk.example``.
        trusted_hosts: Further names by which clients may address the service.
        keep_crops: Whether to store the part of each enrolled image that another model may need; only in
            encrypted galleries.
        expire: Age at which subjects are erased, counted from their last enrolment; at the start and daily.
            None keeps all. Only for galleries in files.
        expire_max_share: Share of a gallery's subjects that ``expire`` may erase at once, 0 to 1; see
            :func:`~verifykit.expire` on what else it refuses.
        watch_scores: Whether to count the scores of probes against others, and say when a stated rate no
            longer holds; the counts are stored in ``<gallery>.scores.json``.
        tls_cert: Certificate chain, PEM; with ``tls_key``.
        tls_key: Its private key, PEM.
        body_timeout_s: How long a client may take to send a body.
        shutdown_timeout_s: How long responses in progress may take once the service is stopped.

    Raises:
        InputError: A value is not allowed, or two of them contradict each other.
    """

    gallery: str
    key: KeySource | None = field(default=None, repr=False)
    model: str = "face"
    models: tuple[tuple[str, str], ...] = ()
    calibration: str | None = None
    fmr: float | None = None
    population: str | None = None
    signatures: str | None = None
    with_signatures: bool = True
    host: str = "127.0.0.1"
    port: int = 8000
    state: str | None = None
    audit: str | None = None
    multi_face: MultiFace = "error"
    quality: QualityGate = "strict"
    turned: TurnedChoice = "upright"
    max_faces: int = 64
    second_face_share: float = 0.25
    providers: Provider = "auto"
    threads: int | None = None
    precision: Precision = "fp32"
    workers: int | None = None
    queue: int = 64
    max_body_bytes: int = 20_000_000
    max_images: int = 10
    max_pixels: int = 40_000_000
    rate_per_minute: int = 0
    failed_verifications: int = 10
    cors: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    keep_crops: bool = False
    expire: timedelta | None = None
    expire_max_share: float = MAX_SHARE
    watch_scores: bool = True
    tls_cert: str | None = None
    tls_key: str | None = None
    body_timeout_s: float = 30.0
    shutdown_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        SampleOptions(**self.sample_values)
        for model, location in self.galleries:
            if not location:
                raise InputError("gallery is empty: give a file or a postgresql:// URL")
            if not model:
                raise InputError(
                    f"model of gallery {shown(location)} is empty: give a name or a model file"
                )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if self.port > 65535:
            raise InputError(f"port is at most 65535, got {self.port}")
        self._require_files()
        for origin in self.cors:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise InputError(
                    f"origin {shown(origin)}: an origin is like https://desk.example:8443, without a path"
                )
        self._require_retainable()

    def _require_files(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InputError("a certificate and its key go together: give both, or neither")
        for name in ("tls_cert", "tls_key", "calibration"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise InputError(f"{name}: there is no file {shown(path)}; check the path")
        for name in ("state", "audit"):
            if getattr(self, name) is None and is_url(self.gallery):
                raise InputError(
                    f"{name}: a gallery on a server has no folder for this file; say where with --{name}"
                )

    def _require_retainable(self) -> None:
        if self.expire is None:
            return
        galleries = [location for _, location in self.galleries]
        if any(map(is_url, (*galleries, self.signatures or ""))):
            raise InputError(
                "expire: a gallery on PostgreSQL does not store when a subject was enrolled; retention is "
                "available only for galleries in files"
            )
        if self.expire <= timedelta(0):
            raise InputError(f"expire must be > 0, got {self.expire}")
        require_share("expire_max_share", self.expire_max_share)

    @property
    def galleries(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a model and its gallery, the default first, without that of ``signatures``."""
        return ((self.model, self.gallery), *self.models)

    @property
    def sample_values(self) -> dict[str, Any]:
        """The fields of :class:`~verifykit.extraction.SampleOptions`, for requests that do not give them."""
        return {each.name: getattr(self, each.name) for each in fields(SampleOptions)}

    @property
    def state_path(self) -> Path:
        """The file of API keys and idempotency records."""
        return Path(self.state) if self.state else state_path(self.gallery)

    def scores_path(self, location: str, spec_digest: str) -> Path:
        """The file of counted scores of a model's gallery."""
        if is_url(location):
            return Path(f"{self.state_path}.{spec_digest[:12]}.scores.json")
        return scores_path(location)

    @property
    def audit_path(self) -> Path:
        """The file of the audit log."""
        return Path(self.audit) if self.audit else log_path(self.gallery)

    @property
    def signature_gallery(self) -> str | None:
        """The gallery of ``signatures``; None without it."""
        if not self.with_signatures:
            return None
        if self.signatures is not None or self.models or is_url(self.gallery):
            return self.signatures
        gallery = Path(self.gallery)
        return str(gallery.with_name(f"{gallery.stem}.signatures{gallery.suffix}"))

    @property
    def worker_count(self) -> int:
        """Number of requests that are processed at the same time."""
        # While one waits for the encoder or the disk, another has the core.
        return self.workers or 2 * available_cpus()

    @property
    def thread_count(self) -> int:
        """Number of threads of one network run."""
        return self.threads or max(1, available_cpus() // self.worker_count)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


_LEAST = {
    "port": 0,
    "threads": 1,
    "workers": 1,
    "queue": 0,
    "max_body_bytes": 1,
    "max_images": 1,
    "max_pixels": 1,
    "rate_per_minute": 0,
    "failed_verifications": 0,
    "body_timeout_s": 0.001,
    "shutdown_timeout_s": 0.0,
}
assert set(_LEAST) <= {each.name for each in fields(ServerSettings)}  # noqa: S101


def is_url(location: str) -> bool:
    """Return whether a gallery is on a server, not in a file."""
    return gallery_path(location) is None
