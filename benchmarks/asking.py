"""What a search costs besides its trainings: processor seconds per trial, and how they grow.

    python benchmarks/asking.py [--trials 100 300 1000] [--json FILE]

The trials run a job that trains nothing (``tests/phasewise/study/study_toy.py``), one after the
other in one process. They are asked by TPE, one at a time, over four keys. The same study called
again, when all is done, asks for all of them once more and launches none. Seconds of the processor
count, so that others may use the machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import results
from results import ROOT

APP = (
    'from phasewise.cli.main import main\n\nif __name__ == "__main__":\n    main("study_toy:run")\n'
)
SPACE = (
    "optimizer.lr=tag(log,interval(1e-5,1e-1)) model.dropout_rate=interval(0,0.5) "
    "data.batch_size=tag(log,int(interval(2,64))) model.activation=relu,gelu,silu"
)
STUDY = """# @package _global_
defaults: [override /task: multitask]
trainer: {{max_epochs: 1}}
study:
  name: asking
  phases:
    search: {{overrides: '{space}', search: {{sampler: tpe, trials: {trials}}}}}
hydra: {{mode: MULTIRUN, sweep: {{dir: out}}}}
"""


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _study(folder: Path, trials: int) -> float:
    """Processor seconds that the command line takes, start-up included."""
    (folder / "own" / "study").mkdir(parents=True, exist_ok=True)
    text = STUDY.format(space=SPACE, trials=trials)
    (folder / "own" / "study" / "asking.yaml").write_text(text)
    command = [sys.executable, "app.py", "--config-dir", "own", "study=asking", "test=false"]
    before = _cpu()
    subprocess.run(
        [*command, f"hydra.sweep.dir=out{trials}", "study.report=false"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return _cpu() - before


def _sampler(trials: int) -> float:
    """Processor seconds of the sampler alone."""
    from phasewise.study.journal import SearchPlan
    from phasewise.study.sampling import Sampler
    from phasewise.study.space import read_space

    mine = Sampler(SearchPlan("tpe", trials, startup=10), read_space(SPACE.split()), "max")
    before = time.process_time()
    for _ in range(trials):
        number, values = mine.ask()
        mine.tell(number, -abs(float(values["model.dropout_rate"]) - 0.2))
    return time.process_time() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "tests" / "phasewise" / "study" / "study_toy.py", folder)
        (folder / "app.py").write_text(APP)
        start = _study(folder, 1)
        for trials in args.trials:
            first, again = _study(folder, trials) - start, _study(folder, trials) - start
            rows.append(
                {
                    "trials": trials,
                    "all of a trial": first / trials,
                    "when all is done": again / trials,
                    "the sampler alone": _sampler(trials) / trials,
                }
            )
            print("  ".join(f"{key}: {value:.4g}" for key, value in rows[-1].items()), flush=True)
    print(results.machine())
    results.write(args.json, rows=rows)


if __name__ == "__main__":
    main()
