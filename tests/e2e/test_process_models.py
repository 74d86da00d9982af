"""The page on process models: its programs are run by real servers, and whatever they start ends again."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import httpx
import numpy as np
import pytest

import verifykit as vk
from tests.helpers.documents import DOCS, blocks, commands
from verifykit.encoder import Encoder

PAGE = DOCS / "how-to" / "process-models.md"
# How multiprocessing hands objects to its processes.
dumps, loads = ForkingPickler.dumps, ForkingPickler.loads
NAMED = re.compile(r"^# (\w+\.py)\n")


@pytest.fixture
def folder(
    tmp_path: Path, face_model: Path, portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The programs of how-to/process-models.md, and the gallery that they use."""
    for language, code in blocks(PAGE):
        if language == "python":
            named = NAMED.match(code)
            assert named, code
            (tmp_path / named[1]).write_text(code)
    for name, portrait in {
        "a1.jpg": "person_a_1",
        "a2.jpg": "person_a_2",
        "b1.jpg": "person_b_1",
    }.items():
        shutil.copy(portraits[portrait], tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert python("fill.py") == ""
    return tmp_path


def python(*arguments: str, timeout: float = 60) -> str:
    run = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=timeout
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def command(program: str) -> list[str]:
    """Return the page's command line of a program."""
    (line,) = (line for line in commands(PAGE) if line.startswith(program))
    return [str(Path(sys.executable).with_name(program)), *line.split()[1:]]


@contextmanager
def started(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, and require that it ends with all of its processes, soon after the signal."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "HOME": str(Path.cwd())}
    with log.open("wb") as file:
        process = subprocess.Popen(
            arguments, stdout=file, stderr=file, env=environment, start_new_session=True
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) in (0, -signal.SIGTERM), log.read_text()
            end = time.monotonic() + 10
            while _alive(process.pid):
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
        except BaseException:
            sys.stderr.write(log.read_text())
            raise
        finally:
            if _alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, folder: Path) -> set[tuple[str, str]]:
    """Ask until the server answers, then several times at once, as several workers are there."""
    end = time.monotonic() + 40
    found = set()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        while True:
            try:
                client.post("/alice", content=(folder / "a1.jpg").read_bytes())
                break
            except httpx.TransportError:
                assert time.monotonic() < end
                time.sleep(0.1)
        for _ in range(6):
            for name in ("a2.jpg", "b1.jpg"):
                answer = client.post("/alice", content=(folder / name).read_bytes())
                assert answer.status_code == 200, answer.text
                found.add((name, answer.text.lower()))
    return found


@pytest.mark.parametrize("program", ["gunicorn", "uvicorn"])
def test_a_server_with_two_workers_answers_and_ends(program: str, folder: Path) -> None:
    pytest.importorskip(program)
    port = free_port()
    address = {
        "gunicorn": ["--bind", f"127.0.0.1:{port}"],
        "uvicorn": ["--host", "127.0.0.1", "--port", str(port)],
    }
    with started([*command(program), *address[program]], folder / "log"):
        assert answers(port, folder) == {("a2.jpg", "true"), ("b1.jpg", "false")}


CELERY = """
broker_url = "filesystem://"
broker_transport_options = {{
    "data_folder_in": "{folder}/messages",
    "data_folder_out": "{folder}/messages",
    "control_folder": "{folder}/control",
}}
result_backend = "file://{folder}/results"
broker_connection_retry_on_startup = True
"""

CLIENT = """
from celery import Celery
app = Celery("tasks")
app.config_from_object("celeryconfig")
sent = [app.send_task("tasks.verify", ["alice", name]) for name in ("a2.jpg", "b1.jpg") * 3]
print([each.get(timeout=60) for each in sent])
"""


def test_prefork_workers_of_celery_answer_and_end(folder: Path) -> None:
    pytest.importorskip("celery")
    for made in ("messages", "control", "results"):
        (folder / made).mkdir()
    (folder / "celeryconfig.py").write_text(CELERY.format(folder=folder))
    with started([*command("celery"), "--loglevel", "INFO"], folder / "log"):
        assert python("-c", CLIENT) == "[True, False, True, False, True, False]\n"
    assert "hard" not in (folder / "log").read_text()  # nothing had to be killed


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_pool_answers_and_ends(method: str, folder: Path) -> None:
    program = folder / "many.py"
    program.write_text(program.read_text().replace('"spawn"', repr(method)))
    assert python("many.py", "a2.jpg", "b1.jpg") == "a2.jpg alice\nb1.jpg\n"


FORKS = """
import os, sys
import verifykit as vk

verifier = vk.Verifier("face", gallery="staff.db", threads={threads})
before = verifier.verify("alice", "a2.jpg")
child = os.fork()
if child == 0:
    assert verifier.verify("alice", "a2.jpg") == before
    grandchild = os.fork()
    if grandchild == 0:
        assert verifier.verify("alice", "a2.jpg") == before
        {end}
    assert os.waitpid(grandchild, 0)[1] == 0
    {end}
assert os.waitpid(child, 0)[1] == 0
assert verifier.verify("alice", "a2.jpg") == before
print("ended")
"""


@pytest.mark.parametrize(
    ("threads", "end"),
    [(None, "sys.exit(0)"), (1, "sys.exit(0)"), (2, "del verifier; sys.exit(0)")],
)
def test_a_forked_child_answers_the_same_and_ends(
    threads: int | None, end: str, folder: Path
) -> None:
    assert python("-c", FORKS.format(threads=threads, end=end)) == "ended\n"


def test_a_model_that_was_exchanged_before_the_fork_is_refused(
    folder: Path, face_model: Path
) -> None:
    code = (
        f"import os, shutil\nshutil.copy({str(face_model)!r}, 'own.onnx')\n"
        "import os, shutil, verifykit as vk\n"
        "verifier = vk.Verifier('own.onnx', threads=1)\n"
        "{change}\n"
        "os.chdir('/')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try: verifier.extract('{image}')\n"
        "    except vk.ModelError as error: print(type(error).__name__, error, flush=True)\n"
        "    else: print('as before', flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    other = Path(__file__).parents[2] / "models" / "signature.onnx"
    image = str(folder / "a1.jpg")
    assert python("-c", code.format(change="", image=image)) == "as before\n"
    exchanged = python(
        "-c", code.format(change=f"shutil.copy({str(other)!r}, 'own.onnx')", image=image)
    )
    assert exchanged.startswith("ModelIntegrityError")
    removed = python("-c", code.format(change="os.remove('own.onnx')", image=image))
    assert removed.startswith("ModelNotFoundError")


def test_a_verifier_is_pickled_with_its_options(
    folder: Path, face_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = vk.Verifier(
        "face", "staff.db", policy=vk.Policy(1e-5, 1e-3), multi_face="largest", threads=1
    )
    expected = opened.verify("alice", "a2.jpg")
    data = dumps(opened)
    assert len(data) < 4000
    monkeypatch.chdir("/")
    again = loads(data)
    assert again.verify("alice", folder / "a2.jpg") == expected
    assert again.decision_options == opened.decision_options
    assert again.sample_options == opened.sample_options
    # A path stays that path.
    by_path = loads(dumps(vk.Verifier(face_model, threads=1)))
    assert by_path.spec == opened.spec


def test_an_encoder_is_pickled_with_its_calibration(face_model: Path) -> None:
    encoder = Encoder.open(face_model, threads=1)
    spec = encoder.spec
    calibration = vk.Calibration(
        model=spec.name,
        spec_digest=spec.digest,
        fusion=spec.fusion,
        operating_points=spec.operating_points[:3],
        evidence=(),
        default_fmr=None,
        default_attack=spec.default_attack,
        data="a test",
        data_digest="0" * 64,
        subject_count=1,
        image_count=1,
        failures=(),
        multi_face="error",
        quality="strict",
        created="2026-01-01T00:00:00Z",
        verifykit_version=vk.__version__,
    )
    again = loads(dumps(encoder.calibrated(calibration)))
    assert again.spec.operating_points == spec.operating_points[:3]
    crop = np.zeros((spec.input.height_px, spec.input.width_px, 3), np.uint8) + 90
    assert np.array_equal(again.encode([crop]), encoder.encode([crop]))


def test_what_cannot_be_pickled_says_what_to_do(folder: Path) -> None:
    verifier = vk.Verifier("face", threads=1)
    assert len(loads(dumps(verifier)).gallery) == 0
    verifier.enroll("alice", "a1.jpg")
    with pytest.raises(vk.GalleryError, match=r"1 subjects cannot be pickled.*gallery="):
        dumps(verifier)
    encoder = verifier.encoder
    assembled = Encoder(encoder.spec, encoder.encode, encoder.extractor)
    with pytest.raises(vk.InputError, match="opened from a model's name or file"):
        dumps(assembled)
    pytest.importorskip("cryptography")
    key = os.urandom(32)
    with pytest.raises(vk.GalleryKeyError, match=r"env:NAME"):
        dumps(vk.Verifier(encoder, "secret.db", key=key))


def test_an_encrypted_gallery_is_pickled_by_the_place_of_its_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    from verifykit.gallery import new_key_file

    new_key_file("key")
    opened = vk.Verifier("face", "secret.db", key="key", threads=1)
    opened.enroll("alice", "a1.jpg")
    data = dumps(opened)
    assert (folder / "key").read_bytes().strip() not in bytes(data)
    monkeypatch.chdir("/")
    assert loads(data).verify("alice", folder / "a2.jpg")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_images_of_random_sizes_stay_flat_in_memory(folder: Path) -> None:
    said = python("-c", MANY, timeout=800)
    early, late = map(float, said.split())
    assert late < early + 30, said


MANY = """
import numpy as np
from PIL import Image
import verifykit as vk

verifier = vk.Verifier("face", "staff.db", threads=1)
image = Image.open("a2.jpg").convert("RGB")
sizes = np.random.default_rng(7)

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

def verify(times):
    for _ in range(times):
        width = int(sizes.integers(180, 900))
        height = round(width * image.height / image.width * sizes.uniform(0.9, 1.1))
        assert verifier.verify("alice", np.asarray(image.resize((width, height))), quality="warn")

verify(400)
early = resident_mib()
verify(1600)
print(early, resident_mib())
"""
