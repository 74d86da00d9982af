"""Identification on Dask workers: the same bytes as on this machine alone, also when one is lost."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

import verifykit as vk
from tests.helpers.batch_files import finish, start, write_crowd
from verifykit.batch import SourceImage, identify_batch
from verifykit.batch.dask_engine import DaskEngine, embed_on_worker
from verifykit.batch.engine import embed_block, search_block
from verifykit.batch.tables import Question
from verifykit.decision import DecisionRule
from verifykit.extraction import SampleOptions
from verifykit.gallery import encrypt_gallery, new_key_file, take_snapshot
from verifykit.models import calibration_digest

pytestmark = pytest.mark.skipif(not find_spec("distributed"), reason="needs the extra batch")

QUIET = ["--no-dashboard"]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crowd(tmp_path_factory.mktemp("crowd"), 320)


class Cluster:
    """A scheduler and two workers, each a process."""

    def __init__(self, place: Path) -> None:
        self._place = place
        here = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        scheduler = self._start("dask_scheduler", "--port", "0", *here)
        self.address = self._said(scheduler, r"Scheduler at:\s+(tcp://\S+)")
        worker = ("--no-nanny", "--nthreads", "1", *here, "--local-directory", str(place))
        self.workers = [self._start("dask_worker", self.address, *worker) for _ in range(2)]
        self.processes = [scheduler, *self.workers]
        for process in self.workers:
            self._said(process, "(Registered to)")

    def _start(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *options, *QUIET]
        log = self._place / f"{time.monotonic_ns()}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, cwd=self._place)
        process.log = log  # type: ignore[attr-defined]
        return process

    @staticmethod
    def _said(process: subprocess.Popen[bytes], pattern: str) -> str:
        log: Path = process.log  # type: ignore[attr-defined]
        while process.poll() is None:
            if found := re.search(pattern, log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(log.read_text())

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        running = Cluster(tmp_path)
        stack.callback(running.stop)
        yield running


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(
    crowd: Path, cluster: Cluster, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert finish(start(crowd, whole)) == 3
    process = start(crowd, out, "--engine", "dask", "--scheduler", cluster.address)
    while process.poll() is None and not (out.exists() and out.read_bytes().count(b"\n") > 60 + 1):
        time.sleep(0.005)
    assert process.poll() is None
    cluster.workers[0].kill()
    assert finish(process) == 3
    assert out.read_bytes() == whole.read_bytes()
    # What is begun on a cluster can be ended without it.
    out.write_bytes(out.read_bytes()[: whole.stat().st_size // 2])
    assert finish(start(crowd, out)) == 3
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_what_a_worker_cannot_do_is_said(crowd: Path, cluster: Cluster, tmp_path: Path) -> None:
    verifier = vk.Verifier(crowd / "m.onnx", crowd / "g.db", threads=1)
    out = tmp_path / "out.jsonl"
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (32, 32))
    writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.release()
    engine = DaskEngine(cluster.address, str(crowd / "m.onnx"))
    with pytest.raises(vk.InputError, match="has no path that a Dask worker could read"):
        identify_batch(verifier, film, out, threshold=0.9, engine=engine)
    other = DaskEngine(cluster.address, "signature")
    with pytest.raises(vk.ModelContractError, match="not the one that the run was begun with"):
        identify_batch(
            verifier, crowd / "pictures", tmp_path / "2.jsonl", threshold=0.9, engine=other
        )
    with pytest.raises(vk.InputError, match="leave it out"):
        identify_batch(verifier, film, out, engine=engine, workers=2)


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [False, True])
def test_workers_serve_a_run_whose_gallery_is_written_to(
    crowd: Path, cluster: Cluster, tmp_path: Path, sealed: bool
) -> None:
    """They need neither the gallery nor its key: the file is one that they cannot find."""
    gallery = Path(shutil.copy(crowd / "g.db", tmp_path / "g.db"))
    key = str(tmp_path / "g.key") if sealed else None
    if key:
        new_key_file(key)
        encrypt_gallery(gallery, key)
    verifier = vk.Verifier(crowd / "m.onnx", gallery, threads=1, key=key)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    first = identify_batch(verifier, crowd / "pictures", whole, threshold=0.9)

    def write(done: int, _: int) -> None:
        if done == 3:
            for subject_id in list(verifier.gallery.subject_ids()):
                verifier.remove(subject_id)

    engine = DaskEngine(cluster.address, str(crowd / "m.onnx"))
    found = identify_batch(
        verifier, crowd / "pictures", out, threshold=0.9, engine=engine, on_progress=write
    )
    assert found == first
    assert found.gallery_since is not None
    assert found.matched_faces > 0
    assert out.read_bytes() == whole.read_bytes()
    assert {"workers", "search"} < set(found.seconds)


def test_a_worker_embeds_as_this_machine_does(crowd: Path) -> None:
    verifier = vk.Verifier(crowd / "m.onnx", crowd / "g.db", threads=1)
    spec = verifier.spec
    sample = SampleOptions("all")
    question = Question(
        DecisionRule(0.9, None, None), sample, 5, 18, spec.digest, calibration_digest(spec)
    )
    paths = sorted((crowd / "pictures").iterdir())[:16]
    block = [SourceImage(path.name, str(path)) for path in paths]
    opening = (str(crowd / "m.onnx"), "cpu", 1, None, "fp32")
    named = [(image.name, str(image.image)) for image in block]
    sent, _ = embed_on_worker(opening, spec.digest, asdict(sample), named)
    assert not any(s.crop.size for found in sent.acquired if isinstance(found, list) for s in found)
    gallery = take_snapshot(verifier.gallery, spec.embedding_size, spec.fusion)
    received = copy.deepcopy(sent)
    mine = embed_block(verifier.encoder, sample, block)
    assert search_block(gallery, question, received) == search_block(gallery, question, mine)
    with pytest.raises(vk.ModelContractError, match="not the one that the run was begun with"):
        embed_on_worker(opening, "0" * 64, asdict(sample), named)


def test_a_worker_opens_its_model_as_the_engine_says(crowd: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    verifier = vk.Verifier(crowd / "m.onnx", crowd / "g.db", threads=1, max_pixels=16)
    source = tmp_path / "some.txt"
    source.write_text("".join(f"{p}\n" for p in sorted((crowd / "pictures").iterdir())[:4]))
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    identify_batch(verifier, source, whole, threshold=0.9)
    with distributed.LocalCluster(
        1, processes=False, threads_per_worker=1, dashboard_address=None
    ) as one:
        engine = DaskEngine(one.scheduler_address, str(crowd / "m.onnx"), "cpu", max_pixels=16)
        found = identify_batch(verifier, source, out, threshold=0.9, engine=engine)
    assert found.errors == {"unreadable": 4}  # too large for 16 pixels
    assert out.read_bytes() == whole.read_bytes()


def test_a_scheduler_that_is_not_there_is_told(crowd: Path, tmp_path: Path) -> None:
    verifier = vk.Verifier(crowd / "m.onnx", crowd / "g.db", threads=1)
    engine = DaskEngine("tcp://127.0.0.1:9", str(crowd / "m.onnx"), wait_s=0.5)
    with pytest.raises(vk.ProviderError, match=r"no Dask scheduler answers at 'tcp://127.0.0.1:9'"):
        identify_batch(
            verifier, crowd / "pictures", tmp_path / "o.jsonl", threshold=0.9, engine=engine
        )
