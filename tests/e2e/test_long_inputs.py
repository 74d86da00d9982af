"""No more than 80 characters of an input come back, in messages, reports, answers and logs."""

from __future__ import annotations

import ast
import base64
import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as PilImage
from typer.testing import CliRunner

import verifykit as vk
from tests.helpers import fake_encoder
from verifykit import evaluation
from verifykit.cli.app import app
from verifykit.errors import shortened, shown
from verifykit.gallery import new_key_file
from verifykit.server.auth import KeyStore
from verifykit.server.observability import configure_logging
from verifykit.server.state import ServerState

CHECKOUT = Path(__file__).parents[2]
LONG = "".join(f"{number:05d}." for number in range(17_000))
"""100 kB, in which no run of characters is there twice."""

ID = LONG[:240]
"""As long as a subject id may be."""

_RUNS = {LONG[at : at + 81] for at in range(len(LONG) - 80)}


def assert_short(text: str) -> None:
    found = next(
        (text[at : at + 81] for at in range(len(text) - 80) if text[at : at + 81] in _RUNS), ""
    )
    assert not found, f"more than 80 characters of an input: {found}... in a text of {len(text)}"


def test_shortened() -> None:
    assert shortened("a" * 80) == "a" * 80
    assert len(shortened(LONG)) == 80
    assert shortened(Path("folder") / LONG).startswith("folder")
    assert shortened(LONG).endswith(LONG[-40:])  # the end says most about a path
    assert shown("it's") == repr("it's")
    assert len(shown(LONG)) == 80
    assert_short(shortened(LONG) + shown(LONG))
    with pytest.raises(AssertionError):
        assert_short(LONG[100:181])


IMAGE = np.full((8, 8, 3), 90, np.uint8)

Attempt = Callable[[vk.Verifier, str, Path], object]

ATTEMPTS: dict[str, Attempt] = {
    "subject to verify": lambda v, text, _: v.verify(text, IMAGE),
    "subject to remove": lambda v, text, _: v.remove(text),
    "subject to enroll": lambda v, text, _: v.enroll(text, "missing.jpg"),
    "path": lambda v, text, _: v.extract(text),
    "Path": lambda v, text, _: v.extract(Path("/") / text),
    "paths": lambda v, text, _: v.enroll("b", [text, text]),
    "URL": lambda v, text, _: v.extract(f"https://{text}"),
    "data URL": lambda v, text, _: v.extract(f"data:image/png;base64,{text}"),
    "data URL without base64": lambda v, text, _: v.extract(f"data:{text[:200]},{text}"),
    "bytes": lambda v, text, _: v.extract(text.encode()),
    "file": lambda v, text, _: v.extract(io.BytesIO(text.encode())),
    "name of a file": lambda v, text, _: v.extract(_named(text)),
    "array": lambda v, text, _: v.extract(np.array([text])),
    **{
        option: lambda v, text, _, option=option: v.verify("a", IMAGE, **{option: text})  # type: ignore[misc]
        for option in ("multi_face", "quality", "attack", "fmr", "threshold", "policy")
    },
    "on_existing": lambda v, text, _: v.enroll("a", IMAGE, on_existing=text),  # type: ignore[arg-type]
    "limit": lambda v, text, _: v.identify(IMAGE, limit=text),  # type: ignore[arg-type]
    "key of metadata": lambda v, text, _: v.enroll("m", IMAGE, {text: object()}),
    "metadata": lambda v, text, _: v.enroll("m", IMAGE, text),  # type: ignore[arg-type]
    "value in metadata": lambda v, text, _: v.enroll("m", IMAGE, {"a": {text: float("nan")}}),
    "model": lambda _, text, __: vk.Verifier(text),
    "model's path": lambda _, text, __: vk.Verifier(f"/{text}.onnx"),
    "gallery": lambda v, text, _: vk.Verifier(v.encoder, text),
    "gallery in a folder": lambda v, text, _: vk.Verifier(v.encoder, f"missing/{text}"),
    "existing gallery": lambda v, text, _: vk.open_gallery(text, v.spec, create=False),
    "gallery on a server": lambda v, text, _: vk.Verifier(
        v.encoder, f"postgresql://127.0.0.1:1/{text}?verifykit_gallery={text}"
    ),
    "host of a gallery": lambda v, text, _: vk.Verifier(
        v.encoder,
        f"postgresql://{text.replace('.', 'x')}/a",  # one label, which is no host name
    ),
    "scheme of a gallery": lambda v, text, _: vk.Verifier(
        v.encoder, f"a{text.replace('.', 'x')}://b"
    ),
    "key file to be made": lambda _, text, at: new_key_file(at / text),
    "scopes of a key": lambda _, text, at: KeyStore(ServerState(at / "s")).create("a", [text]),
    "rate": lambda v, text, _: v.verify("a", IMAGE, fmr=int(text.replace(".", "")[:4000])),  # type: ignore[arg-type]
    "key's file": lambda v, text, at: vk.Verifier(v.encoder, at / "k.db", key=text),
    "key's variable": lambda v, text, at: vk.Verifier(v.encoder, at / "k.db", key=f"env:{text}"),
    "calibration": lambda v, text, _: vk.Verifier(v.encoder, calibration=text),
    "providers": lambda _, text, __: vk.Verifier("signature", providers=text),  # type: ignore[arg-type]
    "max_pixels": lambda v, text, _: vk.Verifier(v.encoder, max_pixels=text),  # type: ignore[arg-type]
    "format": lambda _, text, __: vk.allow_format(text),
    "batch's source": lambda v, text, at: vk.identify_batch(v, text, at / "a.jsonl"),
    "batch's output": lambda v, text, at: vk.identify_batch(v, at, text),
    "batch's output in a folder": lambda v, text, at: vk.identify_batch(
        v, at, at / text / "a.jsonl"
    ),
    "folder to cluster": lambda v, text, _: vk.cluster_folder(v.encoder, text),
    "audit log": lambda _, text, __: vk.AuditLog(text).append(
        "verify", subject_id="a", decision="b"
    ),
    "entry of the audit log": lambda _, text, at: vk.AuditLog(at / "log").append(
        text, subject_id=text, decision=text
    ),
    "data of an evaluation": lambda _, text, __: evaluation.read_data(text),
    "CSV of an evaluation": lambda _, text, __: evaluation.read_data(f"{text}.csv"),
}


def _named(text: str) -> io.BytesIO:
    file = io.BytesIO(b"no image")
    file.name = text
    return file


@pytest.fixture
def verifier() -> vk.Verifier:
    verifier = vk.Verifier(fake_encoder.encoder())
    verifier.enroll("a", IMAGE)
    return verifier


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param(kind, text, id=f"{kind}, {len(text)}")
        for kind in ATTEMPTS
        for text in (LONG, ID)
        # These are made.
        if text is LONG or kind not in ("gallery", "audit log", "key file to be made")
    ],
)
def test_errors_of_the_library(
    verifier: vk.Verifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((vk.VerifyKitError, OSError)) as caught:
        ATTEMPTS[kind](verifier, text, tmp_path)
    assert_short(str(caught.value))
    if kind not in ("gallery on a server", "host of a gallery"):  # whose cause is libpq's
        assert_short("".join(traceback.format_exception(caught.value)))
    assert isinstance(caught.value, vk.VerifyKitError) or kind.startswith("batch's output")


FILES = {
    "images.csv": "path,subject\n{0},{0}\n{0},b\n",
    "columns.csv": "{0}\n{0}\n",
    "labels.csv": "path,subject,label\n{0},{0},{0}\n",
    "pairs.csv": "probe,reference,mated,attack\n{0},x,{0},y\n",
    "attacks.csv": "probe,reference,mated,attack\n{0},x,0,{0}\n",
    "groups.csv": "path,subject,{0}\n{0},{0},a\n{0},{0},b\n",
    "quotes.csv": 'path,subject\n"{0},{0}\n',
    "pairs.txt": "10\t300\n{0}\t{0}\t{0}\n",
    "head.txt": "{0}\n",
    "calibration.json": '{{"format": "{0}", "{0}": 1}}',
}


@pytest.mark.parametrize("name", FILES)
def test_contents_of_files(verifier: vk.Verifier, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name].format(LONG))
    attempts: list[Callable[[], object]] = [
        lambda: evaluation.evaluate(
            [evaluation.ModelEmbedder(verifier.encoder, "fake")], evaluation.read_data(path)
        ),
        lambda: vk.Verifier(verifier.encoder, calibration=path),
    ]
    if name not in ("images.csv", "labels.csv", "groups.csv", "pairs.txt", "head.txt"):
        attempts.append(lambda: vk.identify_batch(verifier, path, tmp_path / "rows.jsonl"))
    for attempt in attempts:
        with pytest.raises(vk.VerifyKitError) as caught:
            attempt()
        assert_short("".join(traceback.format_exception(caught.value)))


def test_reports_name_no_data_url(verifier: vk.Verifier) -> None:
    good = io.BytesIO()
    PilImage.fromarray(IMAGE).save(good, "PNG")
    url = "data:image/png;base64," + base64.b64encode(good.getvalue()).decode()
    bad = f"data:image/png;base64,{LONG}"
    report = verifier.enroll("b", [url, bad, LONG, _named(LONG), f"/{ID}.jpg"])
    assert report.accepted == ("image 1",)
    assert report.refused[0].image == "image 2"
    assert all(len(refused.image) <= 80 for refused in report.refused)
    assert_short(json.dumps(report.to_dict()))
    with pytest.raises(vk.ImageError) as caught:
        verifier.enroll("b", [bad, LONG, f"{LONG}.jpg"])
    assert_short(str(caught.value))


# ------------------------------------------------------------------ the command line


def commands() -> Iterator[list[str]]:
    """Every command with a long text in place of each argument and of each option's value."""
    for text in (LONG, f"data:image/png;base64,{LONG}"):
        yield from (
            ["compare", text, text],
            ["enroll", text, text, "-g", "a.db"],
            ["enroll", "a", "a.jpg", "-g", "a.db", "--metadata", text],
            ["verify", text, text, "-g", text],
            ["identify", text, "-g", text],
            ["identify-batch", text, "-g", text, "-o", text],
            ["cluster", text, "--out", f"{text}.csv"],
            ["evaluate", text, "--out", "out"],
            ["calibrate", text, "--out", f"/missing/{text}"],
            ["calibrate", "a.csv", "--out", "b", "--references", text],
            ["gallery", "info", text],
            ["gallery", "show", text, text],
            ["gallery", "export", text, text],
            ["gallery", "import", text, "-g", text],
            ["gallery", "check", text],
            ["gallery", "expire", text, "--older-than", text],
            ["gallery", "copy", text, text],
            ["gallery", "encrypt", text, "--key-file", text],
            ["audit", "verify", text],
            ["audit", "show", text],
            ["models", "path", text],
            ["models", "pull", text],
            ["models", "verify", text],
            ["serve", "--gallery", text, "--host", text],
            ["serve", "--model", text],
            ["serve", "--gallery", "a.db", "--cors", text],
            ["serve", "--gallery", "a.db", "--tls-cert", text, "--tls-key", text],
            ["serve", "keys", "create", "--name", text, "--scope", text, "--gallery", "a.db"],
            ["serve", "keys", "revoke", text, "--gallery", "a.db"],
            [
                "serve",
                "keys",
                "create",
                "--name",
                "a",
                "--scope",
                "read",
                "--expires",
                text,
                "--state",
                text,
            ],
            [text],
            ["gallery", text],
            [f"--{text}"],
            ["compare", "a.jpg", "b.jpg", f"--{text}"],
            ["compare", "a.jpg", "b.jpg", f"--fmr={text}"],
            ["compare", "a.jpg", "b.jpg", "c.jpg", text],
            *(
                ["compare", "a.jpg", "b.jpg", option, text]
                for option in (
                    "--fmr",
                    "--attack",
                    "--multi-face",
                    "--quality",
                    "--model",
                    "--calibration",
                    "--providers",
                    "--threads",
                    "--max-pixels",
                    "--save",
                )
            ),
        )


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    for arguments in commands():
        for extra in ([], ["--json"]):
            if extra and arguments[0] in ("serve", LONG):
                continue
            result = runner.invoke(app, [*arguments, *extra])
            assert result.exit_code == 2, (arguments[:2], result.output[:300])
            assert_short(result.output.replace("\n", "").replace("\u2502", ""))
            assert_short(result.stdout + result.stderr)


def test_what_commands_have_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long paths and ids that exist, in the lines that say what was done with them."""
    folder = tmp_path / LONG[:200] / LONG[200:400]
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    verifier = vk.Verifier(fake_encoder.encoder(), tmp_path / "g.db")
    for subject_id in ("a", ID):
        verifier.enroll(subject_id, IMAGE)
    verifier.gallery.close()
    gallery, long = str(tmp_path / "g.db"), str(folder)
    runner = CliRunner()
    for arguments in (
        ["gallery", "new-key", f"{long}/k"],
        ["gallery", "export", gallery, f"{long}/e.jsonl"],
        ["gallery", "show", gallery, ID, "--export", f"{long}/s.json"],
        ["gallery", "remove", gallery, ID],
        ["gallery", "accept-copy", gallery],
    ):
        for again in (False, True):
            result = runner.invoke(app, arguments)
            assert again or result.exit_code == 0, result.output
            assert_short(result.output)
            assert again is False or result.exit_code == 0 or "=True" not in result.output


def test_overrides_of_a_training(tmp_path: Path) -> None:
    pytest.importorskip("pydantic")
    config = pytest.importorskip("verifykit_training.config")
    path = tmp_path / "run.toml"
    path.write_text('name = "a"\n')
    for override in (
        LONG,
        f"{LONG}=1",
        f"data.{LONG}=1",
        f"name.{LONG}=1",
        f"data.folder={LONG}",
        f"optimiser.rate={LONG}",
        f"{LONG}.{LONG}={LONG}",
    ):
        with pytest.raises(vk.VerifyKitError) as caught:
            config.load_config(path, [override])
        assert_short(str(caught.value))


# ------------------------------------------------------------------ HTTP


@pytest.fixture
def log() -> io.StringIO:
    """What the service logs."""
    stream = io.StringIO()
    configure_logging(logging.DEBUG, stream)
    return stream


def requests(client: httpx.Client) -> Iterator[httpx.Response]:
    """Answers to requests with a long text in each place; heads are limited to 64 kB by the server."""
    head = LONG[:12_000]
    path = "/v1/subjects/a"
    yield client.get(f"/{head}")
    yield client.get(f"/v1/subjects/{head}")
    yield client.put(f"/v1/subjects/{ID}", json={"images": [LONG]})
    yield client.post(f"/v1/subjects/{ID}/verify", json={"image": LONG})
    yield client.delete(f"/v1/subjects/{ID}")
    for name in (
        "model",
        "fmr",
        "attack",
        "multi_face",
        "quality",
        "on_existing",
        "limit",
        "after",
        head,
    ):
        yield client.put(path, params={name: head}, json={"images": [LONG]})
        yield client.get("/v1/subjects", params={name: head})
        yield client.post("/v1/identify", params={name: head}, json={"image": LONG})
    for header in (
        "Authorization",
        "Idempotency-Key",
        "X-Request-Id",
        "Origin",
        "Content-Type",
        head[:200],
    ):
        for value in (head, f"Bearer {head}", f"multipart/form-data; boundary={head}"):
            yield client.put(path, headers={header: value}, content=LONG.encode())
    for body in (
        {LONG: 1},
        {"images": LONG},
        {"images": [LONG]},
        {"images": [f"data:image/png;base64,{LONG}"]},
        {"images": [f"data:{LONG},{LONG}"]},
        {"images": ["eA=="], "metadata": LONG},
        {"images": ["eA=="], "metadata": {LONG: LONG}},
        LONG,
    ):
        yield client.put(path, json=body)
    yield client.put(path, content=LONG.encode(), headers={"Content-Type": "application/json"})
    yield client.put(path, files={LONG[:1000]: b"x"})
    yield client.put(path, files={"image": (LONG[:1000], b"x")}, data={"metadata": LONG})


def test_answers_and_logs_of_the_service(
    face_model: Path, tmp_path: Path, log: io.StringIO
) -> None:
    pytest.importorskip("fastapi")
    from tests.unit.server.running import running
    from verifykit.server.settings import ServerSettings

    with running(ServerSettings(str(tmp_path / "a.db"), with_signatures=False)) as service:
        for answer in requests(service.client):
            assert answer.status_code >= 400 or answer.request.method == "GET"
            assert_short(answer.text)
            for name, value in answer.headers.items():
                assert_short(f"{name}: {value}")
    assert log.getvalue()
    assert_short(log.getvalue())


# ------------------------------------------------------------------ the sources


def test_no_message_shows_a_value_by_its_repr_alone() -> None:
    """``{value!r}`` in a text shows the whole of it: ``{shown(value)}`` does not."""
    sources = [
        path
        for package in ("verifykit", "training/verifykit_training", "export/verifykit_export")
        for path in (CHECKOUT / package).rglob("*.py")
        if path != CHECKOUT / "verifykit/__init__.py"  # which names an attribute
    ]
    assert len(sources) > 100
    found = [
        f"{path.relative_to(CHECKOUT)}:{node.lineno}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FormattedValue) and node.conversion == ord("r")
    ]
    assert found == []
