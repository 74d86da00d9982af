"""``verifykit doctor``: report the installation, what of it works, and how fast it is."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
import time
from typing import Any

import typer

from verifykit import models
from verifykit.cli._run import ERROR, emit
from verifykit.cli.options import JsonOption, ThreadsOption, command
from verifykit.cli.render import columns
from verifykit.encoder import Encoder
from verifykit.errors import InputError, VerifyKitError
from verifykit.formats import readable_formats
from verifykit.modalities import golden_image
from verifykit.session import Provider, available_providers, telemetry_problem

_ROUNDS = 20
# Packages that bring the same module overwrite each other's files.
_RIVALS = {
    "onnxruntime": "pip uninstall them all, then install one of the extras cpu, gpu or openvino",
    "cv2": "pip uninstall them all, then pip install opencv-python-headless",
}


@command
def doctor(threads: ThreadsOption = None, as_json: JsonOption = False) -> None:
    """Report versions, providers, models and the time of one embedding.

    Status 2 when something is wrong; the report says what, and what to do.
    """
    report = diagnose(threads)
    emit(report, _text(report), as_json=as_json)
    if report["problems"]:
        raise typer.Exit(ERROR)


def diagnose(threads: int | None = None) -> dict[str, Any]:
    """What ``doctor`` reports.

    Args:
        threads: Threads of the network for the timing; None takes every core.

    Returns:
        ``versions`` by package, ``telemetry`` of onnxruntime (``"off"``, ``"on"`` or ``"unknown"`` without
        it), ``image_formats`` with whether each can be read, ``providers`` and ``models`` as lists of
        objects, ``problems`` as sentences.
    """
    problems: list[str] = []
    installed = importlib.metadata.packages_distributions()
    versions = {
        "verifykit-sdk": importlib.metadata.version("verifykit-sdk"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": importlib.metadata.version("numpy"),
        "pillow": importlib.metadata.version("pillow"),
    }
    for module, advice in _RIVALS.items():
        packages = sorted(set(installed.get(module, ())))
        versions |= {name: importlib.metadata.version(name) for name in packages}
        if len(packages) > 1:
            problems.append(f"{' and '.join(packages)} both bring the module {module}: {advice}")
    if other := _namesake():
        problems.append(other)
    try:
        names = available_providers()
    except VerifyKitError as error:
        problems.append(str(error))
        names = ()
    known = _models(problems)
    ready = next((model for model in known if model["state"] == "ready"), None)
    providers = [_provider(name, ready, threads, problems) for name in names]
    return {
        "versions": versions,
        "telemetry": _telemetry(problems) if names else "unknown",
        "image_formats": readable_formats(),
        "providers": providers,
        "models": known,
        "problems": problems,
    }


def _telemetry(problems: list[str]) -> str:
    if problem := telemetry_problem():
        problems.append(problem)
        return "on"
    return "off"


def _models(problems: list[str]) -> list[dict[str, Any]]:
    try:
        return [_model(status, problems) for status in models.list_models()]
    except InputError as error:  # no folder for them
        problems.append(str(error))
        return []


def _namesake() -> str | None:
    """Report another project's distribution, whose files have the same import name as these."""
    try:
        version = importlib.metadata.version("verifykit")
    except importlib.metadata.PackageNotFoundError:
        return None
    return (
        f"the distribution verifykit {version}, of another project, is installed too; it and verifykit-sdk "
        "overwrite each other's files: pip uninstall verifykit, then pip install --force-reinstall "
        "--no-deps verifykit-sdk"
    )


def _model(status: models.ModelStatus, problems: list[str]) -> dict[str, Any]:
    entry = status.entry
    state = "ready" if status.present else "not built yet"
    if status.present or entry.file:
        try:
            models.verify(entry.name)
        except VerifyKitError as error:
            state = "unusable"
            advice = f"; `verifykit models pull {entry.name}` replaces it" if entry.builder else ""
            problems.append(f"{error}{advice}")
    return {
        "name": entry.name,
        "modality": entry.modality,
        "licence": entry.licence,
        "state": state,
        "path": str(status.path),
    }


def _provider(
    name: str, model: dict[str, Any] | None, threads: int | None, problems: list[str]
) -> dict[str, Any]:
    """Open a real model on a provider: being built in does not mean that it works."""
    if model is None:
        return {"name": name, "works": None, "detail": "not tried: no model is here yet"}
    asked: Provider = name  # type: ignore[assignment]
    try:
        encoder = Encoder.open(model["path"], providers=asked, threads=threads)
        took_ms = _embedding_ms(encoder)
    except VerifyKitError as error:
        problems.append(str(error))
        return {"name": name, "works": False, "detail": str(error)}
    detail = f"one {model['name']} embedding takes {took_ms:.1f} ms"
    return {"name": name, "works": True, "detail": detail, "embedding_ms": took_ms}


def _embedding_ms(encoder: Encoder) -> float:
    crop = golden_image(encoder.spec.input.height_px, encoder.spec.input.width_px)
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        encoder.encode([crop])
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1000, 3)


def _text(report: dict[str, Any]) -> str:
    works = {True: "works", False: "fails", None: "unknown"}
    providers = [(p["name"], works[p["works"]], p["detail"]) for p in report["providers"]]
    names = ("name", "modality", "licence", "state", "path")
    rows = [[model[name] for name in names] for model in report["models"]]
    blocks = [
        columns(("package", "version"), report["versions"].items()),
        f"telemetry of onnxruntime: {report['telemetry']}",
        f"image formats: {_formats_text(report['image_formats'])}",
        columns(("provider", "state", "detail"), providers),
        columns(("model", *names[1:]), rows),
        "\n".join(f"problem: {problem}" for problem in report["problems"]) or "no problems found",
    ]
    return "\n\n".join(blocks)


def _formats_text(formats: dict[str, bool]) -> str:
    return ", ".join(
        name if is_readable else f"{name} (not installed)" for name, is_readable in formats.items()
    )
