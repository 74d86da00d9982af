from __future__ import annotations

import re
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

if not find_spec("distributed"):
    pytest.skip("needs the extra batch", allow_module_level=True)

import psutil  # comes with distributed

from benchmarks.batch.dask import Workload, cluster, compare_engines
from benchmarks.synthetic import entries, random_rows
from tests.helpers.batch_files import many, write_model


@pytest.mark.slow
def test_both_engines_are_measured_on_the_same_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = many(tmp_path / "images", 40)
    names = tmp_path / "list.txt"
    names.write_text("\n".join(map(str, sorted(folder.iterdir()))))
    model = str(write_model(tmp_path / "m.onnx"))
    work = Workload(names, 40, model, tmp_path / "g.db", tmp_path)
    Console().print(compare_engines(work, entries(random_rows(20, 4, seed=0)), rounds=1))
    rows = re.findall(r"(local|dask), [^│]*│\s*([\d.]+)\s*│\s*([\d.]+)", capsys.readouterr().out)
    assert [engine for engine, _, _ in rows] == ["local", "dask", "dask"]
    (local, one), (fresh, share), (_, again) = [(float(a), float(b)) for _, a, b in rows]
    assert one == 1.0
    assert share == pytest.approx(fresh / local, abs=0.02)
    assert again > share  # these workers have imported and opened everything
    assert (tmp_path / "dask.jsonl").read_bytes().count(b"\n") == 1 + 40


@pytest.mark.slow
def test_the_cluster_ends_with_its_block(tmp_path: Path) -> None:
    with cluster(tmp_path) as address:
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        assert host == "127.0.0.1"
        listening = [
            connection.laddr.ip
            for process in psutil.Process().children()
            if any(part.startswith("distributed.cli") for part in process.cmdline())
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        # For messages and for HTTP, a scheduler and two workers.
        assert listening == ["127.0.0.1"] * 6
        socket.create_connection((host, int(port)), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
