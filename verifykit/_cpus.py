"""How many processors this process may use, by affinity and a container's quota; threads kept for them."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath

_CGROUPS = Path("sys/fs/cgroup")


def available_cpus() -> int:
    """Return how many threads can run at once here, at least 1."""
    affinity = _affinity()
    quota = own_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


_are_shared: ContextVar[bool] = ContextVar("verifykit_cores_are_shared", default=False)


@contextmanager
def sharing_cores() -> Iterator[None]:
    """Mark a block that several threads run at once, with less than two processors for each."""
    token = _are_shared.set(True)
    try:
        yield
    finally:
        _are_shared.reset(token)


def cores_are_shared() -> bool:
    """Return whether this code is in a block of :func:`sharing_cores`."""
    return _are_shared.get()


pools: dict[tuple[str, int], ThreadPoolExecutor] = {}


def _forget_pools() -> None:
    """Begin without pools in a forked process, which has none of their threads."""
    global pools
    pools = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def kept_pool(name: str, threads: int) -> ThreadPoolExecutor:
    """Return the pool of this name and number of threads, which is kept: to start a thread takes time.

    It may be busy with the work of other callers: cancel what it has not begun, and do that yourself.
    """
    pool = pools.get((name, threads))
    # Two threads may make one each: both work, and one of them is kept.
    return pool or pools.setdefault((name, threads), ThreadPoolExecutor(threads, name))


def network_threads(threads: int | None) -> int | None:
    """Return the number of threads of a network; None leaves it to the runtime, which knows no quota."""
    return available_cpus() if threads is None and available_cpus() < _affinity() else threads


@functools.cache
def computes_bf16(root: Path = Path("/")) -> bool:
    """Return whether the processor multiplies bfloat16; False too on systems other than Linux."""
    words = (_read(root / "proc/cpuinfo") or "").split()
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(words)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the processors' worth of time that cgroups (v1 or v2) grant; None without a limit."""
    quotas = [
        quota
        for folder in _groups(root)
        for quota in (_quota_v2(folder), _quota_v1(folder))
        if quota is not None
    ]
    return min(quotas, default=None)


@functools.cache
def own_quota() -> float | None:
    """Return the quota of this process, which is looked up once."""
    return cpu_quota()


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's group and of those above it, whose limits hold as well."""
    for line in (_read(root / "proc/self/cgroup") or "0::/").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in {controllers, "cpu", "cpu,cpuacct"} if controllers else {""}:
            base = root / _CGROUPS / mount
            # In a container the name may be that of the host, whose folders are not there.
            inside = PurePosixPath(name.lstrip("/"))
            for part in (inside, *inside.parents):
                yield base / part


def _quota_v2(folder: Path) -> float | None:
    limit, _, period = (_read(folder / "cpu.max") or "max").partition(" ")
    return _share(limit, period or "100000")


def _quota_v1(folder: Path) -> float | None:
    limit = _read(folder / "cpu.cfs_quota_us")
    period = _read(folder / "cpu.cfs_period_us")
    return _share(limit, period) if limit and period else None


def _share(limit: str, period: str) -> float | None:
    """Return the processors' worth of time; None for ``max``, ``-1`` and what is no number."""
    try:
        share = int(limit) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return share if share > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
