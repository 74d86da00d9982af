"""No verb, import or service uses the network, or writes outside the folders that it was given."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

# Every Python process that is started with this on its path records what it asks of the network.
GUARD = """
import ipaddress, os, sys

WATCHED = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
           "socket.gethostbyname", "socket.gethostbyaddr"}

def is_number(host):
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False

def hook(event, arguments):
    if event not in WATCHED:
        return
    if event == "socket.getaddrinfo" and (arguments[0] is None or is_number(arguments[0])):
        return
    if event.startswith("socket.") and event != "socket.getaddrinfo" and len(arguments) > 1:
        if not isinstance(arguments[1], tuple):
            return  # a socket of this machine
    with open(os.environ["OFFLINE_RECORD"], "a") as file:
        file.write(f"{event} {arguments[-1] if len(arguments) < 3 else arguments[:2]}\\n")

sys.addaudithook(hook)
"""

VERBS = """
import shlex, sys
from verifykit.cli import main

for line in sys.argv[1:]:
    sys.argv = ["verifykit", *shlex.split(line)]
    try:
        main()
    except SystemExit as stop:
        assert stop.code in (None, 0, 1), line
"""

SUBJECTS = {
    "a": ("person_a_1", "person_a_2"),
    "b": ("person_b_1", "person_b_2"),
    "c": ("obama", "obama2", "obama3"),
    "d": ("biden",),
    "e": ("impostor_1",),
    "f": ("impostor_2",),
}
IMAGES = {"a1.jpg": "person_a_1", "a2.jpg": "person_a_2", "b1.jpg": "person_b_1"}

_WRITES = re.compile(
    r"\b(?:(?:openat|open)\([^\n]*\bO_(?:CREAT|WRONLY|RDWR)\b|creat\(|mkdir\(|mkdirat\(|rename\w*\(|symlink\w*\()"
)
_PATHS = re.compile(r'"((?:[^"\\]|\\.)*)"')
_AT = re.compile(r"\b\w+\((?:\d+|AT_FDCWD)<([^>]*)>")


class Watch:
    """Runs processes without a network and a home of their own, and keeps what they did."""

    def __init__(self, folder: Path, verifykit_home: Path, traced: bool) -> None:
        self.folder, self.traced = folder, traced
        self.own = [folder / "work", folder / "tmp", verifykit_home]
        self.home, self.record, self.trace = (folder / name for name in ("home", "record", "trace"))
        for made in (*self.own, self.home, folder / "guard"):
            made.mkdir(exist_ok=True)
        (folder / "guard" / "sitecustomize.py").write_text(GUARD)
        away = {"CI", "ORT_DISABLE_TELEMETRY", "MPLCONFIGDIR", "NO_ALBUMENTATIONS_UPDATE"}
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in away},
            "HOME": str(self.home),
            "TMPDIR": str(folder / "tmp"),
            "OFFLINE_RECORD": str(self.record),
            "PYTHONPATH": str(folder / "guard"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        tracing = ["strace", "-f", "-qq", "-y", "-o", str(self.trace), "-e"]
        tracing += ["trace=network,open,openat,creat,/^mkdir,/^rename,/^symlink"]
        return subprocess.Popen(
            [*(tracing if self.traced else ()), sys.executable, *arguments],
            cwd=self.own[0],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        said = process.communicate(timeout=200)[0]
        assert process.returncode == 0, said
        return said

    def asked(self, *allowed: str) -> list[str]:
        """Return what the processes asked of the network."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        if self.traced:
            lines += [line for line in self._lines() if re.search(r"\bAF_INET6?\b", line)]
        return [line for line in lines if not any(re.search(each, line) for each in allowed)]

    def written(self) -> list[str]:
        """Return what the processes wrote outside their own folders."""
        found = [str(path) for path in self.home.rglob("*")]
        for line in self._lines() if self.traced else ():
            if _WRITES.search(line) and " = -1 " not in line:
                path = self._path(line)
                own = (*self.own, Path("/dev"), Path("/proc"), self.record, self.trace)
                if not any(path.is_relative_to(each) for each in own):
                    found.append(line)
        return found

    def _lines(self) -> Iterator[str]:
        yield from self.trace.read_text(errors="replace").splitlines()

    def _path(self, line: str) -> Path:
        at = _AT.search(line)
        named = _PATHS.search(line)
        assert named, line
        return Path(at[1] if at else self.own[0], named[1])


TRACED = [
    False,
    pytest.param(
        True,
        marks=pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
    ),
]


@pytest.fixture(params=TRACED, ids=["guard", "strace"])
def watch(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    face_model: Path,
    verifykit_home: Path,
    portraits: Mapping[str, Path],
) -> Watch:
    watch = Watch(tmp_path, verifykit_home, request.param)
    for name, portrait in IMAGES.items():
        shutil.copy(portraits[portrait], watch.own[0] / name)
    for subject, names in SUBJECTS.items():
        (watch.own[0] / "people" / subject).mkdir(parents=True)
        for name in names:
            shutil.copy(portraits[name], watch.own[0] / "people" / subject)
    return watch


def test_the_guard_sees_what_a_process_does(watch: Watch) -> None:
    """Without this, the other tests could pass by looking at nothing."""
    watch.run(
        "-c",
        "import pathlib, socket\n"
        "pathlib.Path.home().joinpath('left').write_text('x')\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.connect(('127.0.0.1', 9))\n"
        "try: socket.getaddrinfo('verifykit.invalid', 443)\n"
        "except OSError: pass\n",
    )
    asked = "\n".join(watch.asked())
    assert "socket.connect" in asked
    assert "verifykit.invalid" in asked
    assert ("AF_INET" in asked) is watch.traced
    assert any("left" in line for line in watch.written())


def test_onnxruntime_alone_is_what_the_variable_is_for(watch: Watch) -> None:
    """When this fails, ONNX Runtime has stopped collecting, and docs/how-to/privacy says too much."""
    watch.run("-c", "import onnxruntime")
    assert any(".onnxruntime" in line for line in watch.written())


def test_no_verb_uses_the_network_or_writes_elsewhere(watch: Watch) -> None:
    watch.run(
        "-c",
        VERBS,
        "compare a1.jpg a2.jpg",
        "enroll alice a1.jpg -g g.db",
        "verify alice a2.jpg -g g.db",
        "identify b1.jpg -g g.db",
        "gallery info g.db",
        "gallery list g.db",
        "gallery check g.db",
        "identify-batch people -g g.db -o rows.jsonl",
        "cluster people -o clusters.jsonl",
        "calibrate people -o own.json",
        "evaluate people -o report",
        "models list",
        "models pull face",
        "models pull face --again",
        "doctor --threads 1",
    )
    assert watch.asked() == []
    assert watch.written() == []
    assert (watch.own[0] / "report" / "report.html").stat().st_size > 10_000


IMPORTS = {
    "verifykit": "import verifykit as vk; vk.Verifier('face', threads=1); import verifykit.evaluation",
    "verifykit_training": "import verifykit_training.cli, verifykit_training.augmentation, "
    "verifykit_training.loop, verifykit_training.reporting",
    "verifykit_export": "import verifykit_export.cli, verifykit_export.face, verifykit_export.precision\n"
    "import onnxruntime.quantization, onnxruntime.transformers.float16",
}


@pytest.mark.parametrize("package", IMPORTS)
def test_no_import_uses_the_network_or_writes_elsewhere(watch: Watch, package: str) -> None:
    pytest.importorskip(package)
    if package != "verifykit":
        pytest.importorskip("lightning_fabric")
    watch.run("-c", IMPORTS[package])
    assert watch.asked() == []
    assert watch.written() == []


def test_the_service_asks_nobody(watch: Watch, portraits: Mapping[str, Path]) -> None:
    process = watch.start("-m", "verifykit", "serve", "-g", "g.db", "--port", "0", "--threads", "1")
    assert process.stdout
    try:
        address = _address(process.stdout)
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            files = {
                name: portraits[portrait].read_bytes()
                for name, portrait in (("probe", "person_a_1"), ("reference", "person_a_2"))
            }
            answer = client.post("/v1/compare", files=files)
            assert answer.status_code == 200, answer.text
            assert answer.json()["match"]
    finally:
        _end(process, watch)
    # The service's own socket, and its answers.
    served = (
        r"\b(?:socket|bind|listen|accept4?|getsockname|getpeername|setsockopt|getsockopt)\(",
        r"\b(?:sendto|sendmsg|recvfrom|recvmsg|shutdown)\(\d+<TCP",
    )
    assert watch.asked(*served) == []
    assert watch.written() == []


def _address(lines: Any) -> str:
    said = []
    for line in lines:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    raise AssertionError("".join(said))


def _end(process: subprocess.Popen[str], watch: Watch) -> None:
    pid = process.pid
    if watch.traced:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pid = int(children[0])
    os.kill(pid, signal.SIGTERM)
    process.communicate(timeout=60)
