"""Time and memory of the re-identification evaluator, up to a gallery of a million images.

    python benchmarks/reid_evaluator.py [--json FILE] [--largest 1000000] [--seconds 60]

One thread. Every measurement runs in a process of its own; "extra" is the peak of its resident
memory during the first call over what it held just before, inputs included. Features are drawn
about one centre per identity, so that ranks are neither perfect nor random. On a machine that does
other work too, read the fastest run, or the processor's time.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import results

VERI = {"queries": 1678, "gallery": 11_579, "channels": 512}
PER_IDENTITY, CAMERAS = 58, 20
"""Gallery images of one identity and cameras, as in VeRi-776."""

GALLERIES = (11_579, 50_000, 100_000, 250_000, 500_000, 1_000_000)
PILOT = 32
"""Queries that are timed first, to know how many fit; never fewer."""

MATRIX = 2**28
"""The most elements of a matrix of distances (1 GB)."""

KINDS = {
    "features": "rank_from_features",
    "distances": "rank_from_distances",
    "metric": "ReidRetrieval (updates of 256, compute)",
    "metric, re-ranked": "ReidRetrieval with k-reciprocal re-ranking",
}


def _inputs(queries: int, gallery: int, channels: int) -> dict[str, Any]:
    import torch

    draw = torch.Generator().manual_seed(0)
    identities = max(1, gallery // PER_IDENTITY)
    centres = 0.35 * torch.randn(identities, channels, generator=draw)
    found: dict[str, Any] = {}
    for part, count in (("query", queries), ("gallery", gallery)):
        ids = torch.randint(0, identities, (count,), generator=draw)
        features = torch.empty(count, channels).normal_(generator=draw)
        for start in range(0, count, 4096):
            features[start : start + 4096] += centres[ids[start : start + 4096]]
        cameras = torch.randint(0, CAMERAS, (count,), generator=draw)
        found |= {part: features, f"{part}_ids": ids, f"{part}_cameras": cameras}
    return found


def _prepare(kind: str, queries: int, gallery: int, channels: int) -> tuple[Callable[[], Any], int]:
    """What to time, and the bytes of its inputs."""
    import torch

    from reid.metrics import ReidRetrieval, ReRanking, rank_from_distances, rank_from_features

    data = _inputs(queries, gallery, channels)
    labels = [data[f"{p}_{n}"] for n in ("ids", "cameras") for p in ("query", "gallery")]
    parts = [data["query"], data["gallery"]]
    if kind == "distances":
        matrix = torch.cdist(*parts)
        return lambda: rank_from_distances(matrix, *labels), matrix.nbytes
    size = sum(part.nbytes for part in parts)
    if kind == "features":
        return lambda: rank_from_features(*parts, *labels), size

    def metric() -> Any:
        scores = ReidRetrieval(reranking=ReRanking() if "re-ranked" in kind else None)
        for i, features in enumerate(parts):
            columns = (features, labels[i], labels[2 + i], torch.arange(len(features)))
            for batch, ids, cameras, index in zip(*(c.split(256) for c in columns), strict=True):
                scores.update(batch, ids, cameras, i == 0, index)
        return scores.compute()

    return metric, size


def _resident(key: str) -> float:
    """Resident memory in MB: ``VmRSS`` now, ``VmHWM`` at most; the most where there is no /proc."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def _measure(kind: str, sizes: dict[str, int], repeats: int) -> dict[str, Any]:
    """In a process of its own."""
    import torch

    torch.set_num_threads(1)
    call, size = _prepare(kind, **sizes)
    _prepare(kind, 8, 64, sizes["channels"])[0]()  # libraries load what they need
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what is free, but held, would hide what is needed
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, walls, cores = _resident("VmRSS"), [], []
    extra, found = 0.0, None
    for i in range(repeats):
        wall, core = time.perf_counter(), time.process_time()
        found = call()
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
        if i == 0:
            extra = _resident("VmHWM") - before
    return {
        "kind": kind,
        **sizes,
        "seconds": {"min": min(walls), "median": median(walls)},
        "processor_seconds": {"min": min(cores), "median": median(cores)},
        "extra_mb": extra,
        "input_mb": size / 2**20,
        "mAP": found["mAP"].item() if found else None,
    }


def _run(kind: str, sizes: dict[str, int], repeats: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", json.dumps([kind, sizes, repeats])]
    single = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env={**os.environ, **single}, stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout)


def _fitting(kind: str, gallery: int, seconds: float) -> dict[str, Any]:
    """With as many queries, at most VeRi's, as take about so many seconds; at least `PILOT`."""
    sizes = VERI | {"gallery": gallery}
    most = VERI["queries"]
    if kind == "distances":
        most = max(PILOT, min(most, MATRIX // gallery))
    pilot = _run(kind, sizes | {"queries": PILOT}, 1)
    queries = min(most, int(PILOT * 0.8 * seconds / pilot["seconds"]["min"]))
    return pilot if queries <= PILOT else _run(kind, sizes | {"queries": queries}, 1)


HEADER = (
    "| what | queries | gallery | seconds: min | median | processor: min | ms per query "
    "| inputs MB | extra MB |\n|---|---|---|---|---|---|---|---|---|"
)


def _row(found: dict[str, Any]) -> str:
    seconds, core = found["seconds"], found["processor_seconds"]["min"]
    return (
        f"| {KINDS[found['kind']]} | {found['queries']:,} | {found['gallery']:,} "
        f"| {seconds['min']:.2f} | {seconds['median']:.2f} | {core:.2f} "
        f"| {1000 * seconds['min'] / found['queries']:.2f} | {found['input_mb']:.0f} "
        f"| {found['extra_mb']:.0f} |"
    )


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Print the tables; write what they hold if asked."""
    parser = argparse.ArgumentParser(description="Time and memory of the re-id evaluator.")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    parser.add_argument("--largest", type=int, default=GALLERIES[-1], help="largest gallery")
    parser.add_argument("--seconds", type=float, default=60, help="for one gallery size, about")
    parser.add_argument("--repeats", type=int, default=5, help="at VeRi scale")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(*json.loads(arguments.one))))
        return
    _say(f"One thread; {results.machine()}\n\nVeRi-776's size\n\n{HEADER}")
    rows = []
    for kind in KINDS:
        rows.append(_run(kind, VERI, 1 if "re-ranked" in kind else arguments.repeats))
        _say(_row(rows[-1]))
    _say(f"\nGrowing galleries\n\n{HEADER}")
    for kind in ("features", "distances"):
        for gallery in GALLERIES:
            if gallery <= arguments.largest:
                rows.append(_fitting(kind, gallery, arguments.seconds))
                _say(_row(rows[-1]))
    results.write(arguments.json, rows=rows)


if __name__ == "__main__":
    main()
