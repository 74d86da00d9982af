"""Settings that are not possible are refused before anything is opened."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import typer

from verifykit.cli.serve import app as serve
from verifykit.errors import InputError
from verifykit.extraction import SampleOptions
from verifykit.server.settings import ServerSettings

URL = "postgresql://db/staff"


def test_files_lie_beside_the_gallery() -> None:
    settings = ServerSettings("/data/staff.db")
    assert settings.state_path == Path("/data/staff.db.server")
    assert settings.audit_path == Path("/data/staff.db.audit.jsonl")
    assert settings.signature_gallery == "/data/staff.signatures.db"
    assert ServerSettings("staff").signature_gallery == "staff.signatures"
    assert ServerSettings("s.db", signatures=URL).signature_gallery == URL
    assert ServerSettings("s.db", with_signatures=False).signature_gallery is None


def test_galleries_of_several_models() -> None:
    settings = ServerSettings("staff.db", models=(("palm.onnx", "palm.db"),))
    assert settings.galleries == (("face", "staff.db"), ("palm.onnx", "palm.db"))
    assert settings.signature_gallery is None
    named = ServerSettings("staff.db", models=(("palm.onnx", "palm.db"),), signatures="s.db")
    assert named.signature_gallery == "s.db"


def test_a_gallery_on_a_server_has_nothing_beside_it() -> None:
    for missing in ({"state": "s"}, {"audit": "a"}, {}):
        with pytest.raises(InputError, match="say where"):
            ServerSettings(URL, **missing)
    settings = ServerSettings(URL, state="s", audit="a")
    assert (settings.state_path, settings.audit_path) == (Path("s"), Path("a"))
    assert settings.signature_gallery is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gallery": ""}, "gallery is empty"),
        ({"models": (("palm.onnx", ""),)}, "gallery is empty"),
        ({"models": (("", "palm.db"),)}, "model of gallery 'palm.db' is empty"),
        ({"port": -1}, "port must be at least 0"),
        ({"port": 65536}, "port is at most 65535"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"queue": -1}, "queue must be at least 0"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"max_images": 0}, "max_images"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"rate_per_minute": -1}, "rate_per_minute"),
        ({"failed_verifications": -1}, "failed_verifications"),
        ({"body_timeout_s": float("nan")}, "body_timeout_s"),
        ({"quality": "lax"}, "quality"),
        ({"multi_face": "some"}, "multi_face"),
        ({"turned": "off"}, "turned"),
        ({"max_faces": 0}, "max_faces"),
        ({"tls_cert": __file__}, "go together"),
        ({"tls_cert": "none.pem", "tls_key": __file__}, "no file 'none.pem'"),
        ({"calibration": "none.json"}, "no file 'none.json'"),
        ({"cors": ("desk.example",)}, "an origin is like"),
        ({"cors": ("https://desk.example/",)}, "an origin is like"),
    ],
)
def test_what_is_not_possible_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ServerSettings(**{"gallery": "staff.db", **wrong})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_only_loopback_is_loopback(host: str, loopback: bool) -> None:
    assert ServerSettings("staff.db", host=host).is_loopback is loopback


def test_workers_and_threads_fit_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifykit.server.settings.available_cpus", lambda: 8)
    for workers, wanted in ((None, (16, 1)), (2, (2, 4)), (8, (8, 1)), (3, (3, 2))):
        settings = ServerSettings("staff.db", workers=workers)
        assert (settings.worker_count, settings.thread_count) == wanted
    assert ServerSettings("staff.db", threads=3).thread_count == 3


def test_the_operator_sets_every_option_of_samples() -> None:
    given = {
        "multi_face": "all",
        "quality": "warn",
        "turned": "error",
        "max_faces": 3,
        "second_face_share": 0.1,
    }
    settings = ServerSettings("staff.db", **given)  # type: ignore[arg-type]
    assert settings.sample_values == given
    assert ServerSettings("staff.db").sample_values == dataclasses.asdict(SampleOptions())
    command = typer.main.get_command(serve)
    options = {name for each in command.params for name in each.opts}
    assert {f"--{name.replace('_', '-')}" for name in given} <= options
