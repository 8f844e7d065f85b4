"""How long a person waits before anything happens.

    python benchmarks/startup.py [--repeats 5] [--json FILE] [overrides]

Seconds by the clock, medians of repeats, each in a process of its own: ``train.py --help``, a
mistyped key, and a sweep of three tiny trainings, from the shell to the first step of the first
trial, and from the end of a trial to the first step of the next.
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

LIMITS = {"--help": 1.0, "a refused override": 2.0, "first step of later trials": 0.5}

TINY = """
model.backbone=mobilenet_v2 data.image_size=32 data.train_images=16 data.val_images=8
data.test_images=8 data.batch_size=8 trainer.max_epochs=1 figures.images=0 study.report=false
"""

TRIALS = 3
WATCH = f'''
import sys, time
sys.path.insert(0, "{ROOT}")
import phasewise.training.trainer, phasewise.training.run
import lightning as L
from phasewise.cli.main import main

class First(L.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == 0:
            print("WATCH step", time.time(), flush=True)

build, train = phasewise.training.trainer.build_callbacks, phasewise.training.run.train
phasewise.training.trainer.build_callbacks = lambda *a: [First(), *build(*a)]

def timed(*args, **kwargs):
    try:
        return train(*args, **kwargs)
    finally:
        print("WATCH end", time.time(), flush=True)

phasewise.training.run.train = timed
sys.argv[0] = "{ROOT / "train.py"}"
main("phasewise.training.run:run")
'''


def command_seconds(*words: str, code: int) -> float:
    """Of one call of ``train.py`` that must end with this exit code."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != code:
        raise SystemExit(done.stderr)
    return seconds


def first_steps(overrides: list[str]) -> tuple[float, float]:
    """Seconds to the first step, from the shell and, as a median, from the trial before."""
    with tempfile.TemporaryDirectory() as place:
        words = [f"hydra.sweep.dir={place}/out", f"data.cache_dir={place}/cache"]
        words = merge(TINY.split(), words, overrides)
        seeds = "seed=" + ",".join(map(str, range(TRIALS)))
        start = time.time()
        done = subprocess.run(
            [sys.executable, "-c", WATCH, "-m", seeds, *words],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    marks = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("WATCH")]
    steps = [float(moment) for kind, moment in marks if kind == "step"]
    ends = [float(moment) for kind, moment in marks if kind == "end"]
    later = [step - end for end, step in zip(ends, steps[1:], strict=False)]
    return steps[0] - start, median(later)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    args, overrides = parser.parse_known_args()
    repeats = range(args.repeats)
    steps = [first_steps(overrides) for _ in repeats]
    seconds = {
        "--help": median(command_seconds("--help", code=0) for _ in repeats),
        "a refused override": median(
            command_seconds("model.actvation=relu", code=2) for _ in repeats
        ),
        "first step": median(first for first, _ in steps),
        "first step of later trials": median(later for _, later in steps),
    }
    print(results.machine())
    for name, value in seconds.items():
        limit = f"  (at most {LIMITS[name]:g})" if name in LIMITS else ""
        print(f"{name:<28} {value:6.2f} s{limit}")
    results.write(args.json, repeats=args.repeats, seconds=seconds)


if __name__ == "__main__":
    main()
