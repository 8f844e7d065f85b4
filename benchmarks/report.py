"""Time and memory of a report, by the number of trials.

    python benchmarks/report.py [--json FILE] [--trials 9 36 108 324 1000]

Directories of trials that never ran (30 epochs each, one sweep over three keys) are written first;
then ``report.py`` runs on each in a process of its own. On a machine that does other work too, the
processor's seconds tell more than the clock's: they add up over all processes that draw.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import results
from results import ROOT

TRIALS = (9, 36, 108, 324, 1000)
EPOCHS = 30
LIMITS = {36: 8.0, 1000: 20.0}
"""Seconds that a report may take."""

BATCHES, DROPOUTS = (8, 16, 32), (0.0, 0.2, 0.5)


def write_sweep(directory: Path, trials: int) -> None:
    """A sweep over learning rate, batch size and dropout with so many trials."""
    from tests.phasewise.study.synthetic import Settings, Synthetic, noise

    # of 1,000 trials 10 x 10 x 10; else one more learning rate for every nine
    sizes = range(4, 44, 4) if trials == 1000 else BATCHES
    rates = [i / 10 for i in range(10)] if trials == 1000 else DROPOUTS
    count = trials // (len(sizes) * len(rates))
    lrs = [f"{1e-5 * 10 ** (3 * i / max(count - 1, 1)):.4g}" for i in range(count)]
    words = [
        f"optimizer.lr={','.join(lrs)}",
        f"data.batch_size={','.join(map(str, sizes))}",
        f"model.dropout_rate={','.join(map(str, rates))}",
    ]

    def score(settings: Settings, seed: int) -> float:
        lr = lrs.index(f"{settings['optimizer.lr']:.4g}") / count
        wanted = 0.5 - 0.3 * (lr - 0.6) ** 2 - 0.1 * settings["model.dropout_rate"]
        return wanted - 0.001 * settings["data.batch_size"] + 0.005 * noise(settings, seed)

    Synthetic({"": " ".join(words)}, score, {}, seeds=[0], epochs=EPOCHS).write(directory)


def measure(directory: Path, output: Path) -> dict[str, float]:
    """Seconds by the clock and of the processor, and the largest process in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "report.py", str(directory), "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    page = (output / "report.html").stat().st_size
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": after.ru_maxrss / 1024,  # of all so far: sizes go up
        "page_mb": page / 1e6,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--trials", type=int, nargs="+", default=TRIALS)
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    print(f"{'trials':>7} {'seconds':>8} {'CPU s':>7} {'peak MB':>8} {'page MB':>8}  limit")
    with tempfile.TemporaryDirectory() as folder:
        for trials in sorted(args.trials):
            place = Path(folder) / str(trials)
            write_sweep(place, trials)
            row = {"trials": trials} | measure(place, Path(folder) / f"report_{trials}")
            found.append(row)
            limit = f"{LIMITS[trials]:g} s" if trials in LIMITS else ""
            print(
                f"{trials:7} {row['seconds']:8.1f} {row['cpu_seconds']:7.1f} {row['peak_mb']:8.0f} "
                f"{row['page_mb']:8.1f}  {limit}",
                flush=True,
            )
    results.write(args.json, epochs=EPOCHS, rows=found)


if __name__ == "__main__":
    main()
