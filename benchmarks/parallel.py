"""What several trials at a time bring on one device.

    python benchmarks/parallel.py [--trials 4] [--jobs 2,4] [--repeats 2] [--json FILE] [overrides]

A sweep whose trials run one after the other in one process, and the same sweep with Hydra's joblib
launcher, whose workers begin with imports of their own. All read the decoded images of one cache,
which a first trial builds. ``throughput`` is that of all trials together, that of one at a time
being 1: it grows where single trials leave the device idle.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import results
from results import ROOT

from phasewise.study.overrides import merge

SMALL = (
    "task=localization",
    "trainer.max_epochs=3",
    "figures.images=0",
    "study.report=false",
)


def _sweep(folder: Path, trials: int, jobs: int, overrides: list[str]) -> float:
    """Seconds that the command line takes for trials that nobody has trained before."""
    place = tempfile.mkdtemp(dir=folder)
    places = [f"data.cache_dir={folder / 'cache'}", f"hydra.sweep.dir={place}"]
    words = merge(SMALL, overrides, places)
    words.append("optimizer.lr=" + ",".join(f"{1 + number}e-4" for number in range(trials)))
    if jobs > 1:
        words += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
    start = time.perf_counter()
    command = [sys.executable, "train.py", "-m", *words]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args, overrides = parser.parse_known_args()
    sizes = [1, *map(int, args.jobs.split(","))]
    seconds: dict[int, list[float]] = {jobs: [] for jobs in sizes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _sweep(folder, 1, 1, overrides)
        for _ in range(args.repeats):
            for jobs in sizes:
                seconds[jobs].append(_sweep(folder, args.trials, jobs, overrides))
    alone = median(seconds[1])
    print(results.machine())
    print(f"{args.trials} trials {'':<10}{'seconds':>10}{'throughput':>12}")
    for jobs in sizes:
        taken = median(seconds[jobs])
        print(f"{jobs} at a time{'':<9}{taken:>10.1f}{alone / taken:>12.2f}")
    results.write(args.json, trials=args.trials, overrides=overrides, seconds=seconds)


if __name__ == "__main__":
    main()
