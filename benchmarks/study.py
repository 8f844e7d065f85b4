"""What a study costs besides its trainings: seconds per trial, and to find that all is done.

    python benchmarks/study.py [--trials 50] [--finished 1000] [--repeats 3] [--json FILE]

The trials run a job that trains nothing (``tests/phasewise/study/study_toy.py``), one after the
other in one process, so that all of the time is overhead. A sweep of one trial is subtracted:
start-up is paid once. The finished sweep is made of records that are written here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import results
from results import ROOT

APP = (
    'from phasewise.cli.main import main\n\nif __name__ == "__main__":\n    main("study_toy:run")\n'
)


def _sweep(folder: Path, out: str, trials: int) -> float:
    """Seconds that the command line takes, start-up included."""
    values = "optimizer.lr=" + ",".join(str(number) for number in range(10, 10 + trials))
    command = [sys.executable, "app.py", "-m", values, f"hydra.sweep.dir={out}"]
    command += ["trainer.max_epochs=1", "model.activation=relu", "study.report=false"]
    start = time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


def _copy_as_finished(folder: Path, trials: int) -> None:
    """Run a sweep of one trial, then write the others' records beside it with a plain copy."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from phasewise.records.record import RunRecord
    from phasewise.study.application import Application
    from phasewise.study.compose import Composer
    from phasewise.study.journal import read_journal
    from phasewise.study.plan import Planner
    from phasewise.study.schema import PhaseConfig

    _sweep(folder, "finished", 1)
    values = "optimizer.lr=" + ",".join(str(number) for number in range(10, 10 + trials))
    words = [values, "trainer.max_epochs=1", "model.activation=relu"]
    with hydra.initialize_config_dir(str(ROOT / "conf"), "app", version_base="1.3"):
        config = hydra.compose("config", ["hydra.sweep.dir=finished"], return_hydra_config=True)
        hydras = GlobalHydra.instance().hydra
        assert hydras is not None
        composer = Composer(config, hydras.config_loader, Application(config))
        goal = {"metric": "val/mIoU", "mode": "max"}
        planner = Planner(composer, folder / "finished", goal, None, 0)
        stage = planner.stage("", PhaseConfig(overrides=words), [])
        book = read_journal(folder / "finished")
        assert book is not None
        book.phases = [stage.phase]
        book.write()
    for (job,) in stage.jobs:
        record = RunRecord.start(
            job.directory,
            task="multitask",
            fingerprint=job.fingerprint.partition("+")[0],
            overrides=job.words,
            seed=0,
            metric=goal["metric"],
            mode=goal["mode"],
        )
        record.finish("completed", value=0.5, epoch=1, best={"val/mIoU": 0.5})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "tests" / "phasewise" / "study" / "study_toy.py", folder)
        (folder / "app.py").write_text(APP)
        per_trial = []
        for number in range(args.repeats):
            one = _sweep(folder, f"one{number}", 1)
            many = _sweep(folder, f"many{number}", args.trials)
            per_trial.append((many - one) / (args.trials - 1))
        _copy_as_finished(folder, args.finished)
        _sweep(folder, "finished", args.finished)  # the first call writes what later ones know
        resume = [_sweep(folder, "finished", args.finished) for _ in range(args.repeats)]
    seconds = {
        "seconds per trial": median(per_trial),
        f"seconds to find {args.finished} trials done": median(resume),
    }
    print(results.machine())
    for key, value in seconds.items():
        print(f"{key:<40} {value:.3f}")
    results.write(args.json, repeats=args.repeats, seconds=seconds)


if __name__ == "__main__":
    main()
