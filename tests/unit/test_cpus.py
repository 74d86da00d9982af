"""How many processors a process may use, from made-up cgroup folders and from this machine's affinity."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from verifykit import _cpus

V1 = "4:cpu,cpuacct:/box/a\n3:cpuset:/other\n1:name=systemd:/box\n"


def write(root: Path, name: str, text: str) -> None:
    path = root / "sys/fs/cgroup" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "50000"}, 0.5),
        ("0::/pod/box", {"pod/box/cpu.max": "max 100000", "pod/cpu.max": "300000 100000"}, 3.0),
        ("0::/pod/box", {"pod/box/cpu.max": "100000 50000", "pod/cpu.max": "800000 100000"}, 2.0),
        ("0::/not/in/the/container", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/", {"cpu.max": "many 100000"}, None),
        ("0::/", {"cpu.max": "100000 0"}, None),
        ("0::/", {"cpu.max": ""}, None),
        (V1, {}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "0"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        (
            V1,
            {
                "cpu,cpuacct/box/a/cpu.cfs_quota_us": "100000",
                "cpu,cpuacct/box/a/cpu.cfs_period_us": "100000",
            },
            1.0,
        ),
    ],
)
def test_the_quota_is_the_least_of_the_groups_above(
    own: str, files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own)
    for name, text in files.items():
        write(tmp_path, name, text)
    assert _cpus.cpu_quota(tmp_path) == quota


def test_without_proc_there_is_no_quota(tmp_path: Path) -> None:
    assert _cpus.cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "count"), [(None, 8), (0.2, 1), (1.5, 2), (64.0, 8)])
def test_the_count_is_the_lesser_of_affinity_and_quota(
    quota: float | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("verifykit._cpus.own_quota", lambda: quota)
    assert _cpus.available_cpus() == count
    assert _cpus.network_threads(3) == 3
    assert _cpus.network_threads(None) == (count if count < 8 else None)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_serve_and_batch_keep_to_the_affinity() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from verifykit._cpus import available_cpus\n"
        "from verifykit.server.settings import ServerSettings\n"
        "print(available_cpus(), ServerSettings(gallery='g.db').worker_count)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "2"]


@pytest.mark.parametrize(
    ("cpuinfo", "computes"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_vnni\n", True),
        ("flags\t\t: fpu amx_bf16 amx_int8\n", True),
        ("flags\t\t: fpu avx512f avx512_vnni\n", False),
        (None, False),  # another system than Linux
    ],
)
def test_bf16_is_read_from_the_processors_flags(
    tmp_path: Path, cpuinfo: str | None, computes: bool
) -> None:
    if cpuinfo is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    assert _cpus.computes_bf16(tmp_path) is computes


def test_cores_are_shared_within_the_block_alone() -> None:
    assert not _cpus.cores_are_shared()
    with _cpus.sharing_cores():
        assert _cpus.cores_are_shared()
        with ThreadPoolExecutor(1) as pool:  # a thread of its own, and no part of the block
            assert not pool.submit(_cpus.cores_are_shared).result()
            copied = contextvars.copy_context()
            assert pool.submit(copied.run, _cpus.cores_are_shared).result()
    assert not _cpus.cores_are_shared()


def test_a_pool_is_kept_by_its_name_and_number() -> None:
    pool = _cpus.kept_pool("verifykit-test", 1)
    assert _cpus.kept_pool("verifykit-test", 1) is pool
    assert _cpus.kept_pool("verifykit-test", 2) is not pool
    name = pool.submit(lambda: threading.current_thread().name).result()
    assert name.startswith("verifykit-test")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_pools_of_its_own() -> None:
    _cpus.kept_pool("verifykit-test", 1).submit(int).result()
    child = os.fork()
    if not child:
        os._exit(_cpus.kept_pool("verifykit-test", 1).submit(int).result(timeout=60))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
