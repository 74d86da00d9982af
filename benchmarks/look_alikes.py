"""Measure how much likelier people are confused whose enrolled images are alike.

``python -m benchmarks.look_alikes --data PATH`` enrolls one image of each person of ``lfw_train`` and of the
frontal images of ``cfp``, and compares the other images of each pair of people with them: how many reach the
threshold of ``--fmr``, by how alike the two enrolled images are. It also times an enrollment with and without
the count of look-alikes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import verifykit as vk
from benchmarks.bands import Faces
from benchmarks.face.data import add_data_argument, read_evaluation_data
from benchmarks.populations import embed, read_cfp
from verifykit.encoder import Encoder
from verifykit.enrollment import look_alikes_of
from verifykit.evaluation.embedding import EmbeddingCache, ModelEmbedder
from verifykit.gallery import SupportsTransfer, checked_entry, searcher
from verifykit.models import load
from verifykit.scoring import penalties
from verifykit.spec import ModelSpec

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
DRAWS = 20


def confusions(faces: Faces, spec: ModelSpec, fmr: float, seed: int) -> NDArray[np.float64]:
    """Return, by the rate that two enrolled images reach, the pairs, the probes, and those that match."""
    cosines = faces.rows.astype(np.float64) @ faces.rows.astype(np.float64).T
    own = penalties(spec.cohort, faces.rows) / 2
    scores = cosines - own[:, None] - own
    cuts = [spec.operating_point(rate).threshold for rate in RATES]
    threshold = spec.operating_point(fmr).threshold
    rng = np.random.default_rng(seed)
    names, owner = np.unique(faces.subjects, return_inverse=True)
    found = np.zeros((len(RATES) + 1, 3))
    for _ in range(DRAWS):
        order = rng.permutation(len(owner))
        _, places = np.unique(owner[order], return_index=True)
        enrolled = order[places]
        near = np.searchsorted(cuts, scores[np.ix_(enrolled, enrolled)], side="right")
        others = np.setdiff1d(np.arange(len(owner)), enrolled)
        matches = scores[np.ix_(others, enrolled)] >= threshold
        kinds = near[owner[others]]
        stranger = owner[others][:, None] != np.arange(len(names))
        pairs = near[np.triu_indices(len(names), 1)]
        for kind in range(len(found)):
            chosen = stranger & (kinds == kind)
            found[kind] += (pairs == kind).sum(), chosen.sum(), (chosen & matches).sum()
    return found / DRAWS


def seconds(work: Callable[[], object], times: int = 20) -> float:
    """Return the median time of a call in this thread's processor time."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def costs(spec: ModelSpec, folder: Path, console: Console) -> None:
    """Print what the count of look-alikes costs in galleries of random people, of whom 1 in 1,000 is one."""
    title = "the search of an enrollment of one template: processor time, ms"
    table = Table(title=title)
    for column in ("gallery", "subjects", "over the threshold only", "with look-alikes", "of them"):
        table.add_column(column, justify="left" if column == "gallery" else "right")
    for count in (1000, 10_000, 100_000):
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((count, spec.embedding_size)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        own = penalties(spec.cohort, rows)
        scores = rows[1:] @ rows[0] - (own[1:] + own[0]) / 2
        near, threshold = (float(np.quantile(scores, share)) for share in (0.999, 1.0))
        entries = [
            checked_entry(
                f"{n:06}",
                [vk.Template(row, spec.digest)],
                None,
                spec_digest=spec.digest,
                embedding_size=spec.embedding_size,
            )
            for n, row in enumerate(rows)
        ]
        for gallery in (vk.open_gallery(None, spec), vk.open_gallery(folder / f"{count}.db", spec)):
            assert isinstance(gallery, SupportsTransfer)  # noqa: S101
            gallery.add_entries(entries, "error")
            search, probe = searcher(gallery, spec), [vk.Template(rows[0], spec.digest)]
            works = [
                partial(look_alikes_of, search, "000000", probe, threshold + 1e-3, limit)
                for limit in (None, near)
            ]
            without, with_them = (1000 * seconds(work) for work in works)
            found = works[1]()[1]
            name = type(gallery).__name__
            table.add_row(name, f"{count:,}", f"{without:.1f}", f"{with_them:.1f}", str(found))
    console.print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.look_alikes", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--cache", type=Path, help="file that caches embeddings")
    parser.add_argument("--fmr", type=float, default=1e-4)
    arguments = parser.parse_args()
    console, embedder = (
        Console(width=110),
        ModelEmbedder(Encoder.open(load("face")), "face", multi_face="middle", quality="warn"),
    )
    spec = embedder.spec
    with tempfile.TemporaryDirectory() as folder, EmbeddingCache(arguments.cache) as cache:
        lfw = read_evaluation_data(arguments.data, "lfw_train", Path(folder)).images
        frontal = [each for each in read_cfp(arguments.data) if each.groups["band"] == "frontal"]
        for name, images in (("lfw_train", lfw), ("cfp, frontal", frontal)):
            faces = embed(embedder, images, cache, embedder)
            table = Table(title=f"{name}: other images that match at FMR {arguments.fmr:g}")
            for column in ("enrolled images reach", "pairs of people", "probes", "match", "share"):
                table.add_column(column, justify="right")
            kinds = ["less", *(f"FMR {rate:g}" for rate in RATES)]
            for kind, row in zip(kinds, confusions(faces, spec, arguments.fmr, 0), strict=True):
                pairs, probes, matches = row
                share = f"{matches / probes:.2g}" if probes else ""
                table.add_row(kind, f"{pairs:,.1f}", f"{probes:,.0f}", f"{matches:,.1f}", share)
            console.print(table)
        costs(spec, Path(folder), console)


if __name__ == "__main__":
    main()
