"""A real study, killed at random moments again and again, against one that was left alone.

``python -m tests.kills [--kills 20] [--workers 1] [--seed 0] [--search]``: some ten minutes; with
``--search``, of a phase whose trials are asked of a sampler. Files are replaced slowly, so that
many kills fall into the middle of a write; temporary files lie on another file system.

- the tables of both, and every run's metrics, are the same to the last bit, but for seconds;
- what had completed before a kill is not touched after it;
- nothing of checkpoints is left where temporary files go.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SLOW = """
import pathlib, time
_replace = pathlib.Path.replace
def replace(self, target):
    time.sleep(0.1)
    return _replace(self, target)
pathlib.Path.replace = replace
"""
STUDY: dict[str, Any] = {
    "defaults": [{"override /task": "localization"}],
    "data": {
        "image_size": 32,
        "train_images": 24,
        "val_images": 8,
        "test_images": 8,
        "batch_size": 8,
    },
    "model": {"backbone": "test_resnet"},
    "trainer": {"max_epochs": 4},
    "figures": {"images": 0},
    "study": {
        "name": "kills",
        "seeds": [0, 1],
        "report": False,
        "phases": {
            "rate": {"overrides": "optimizer.lr=1e-3,1e-2", "halving": {"epochs": 2, "factor": 2}},
            "dropout": "model.dropout_rate=0,0.3",
        },
    },
    "hydra": {"mode": "MULTIRUN", "sweep": {"dir": "undisturbed"}},
}
SEARCH: dict[str, Any] = {
    "fine": {
        "overrides": "optimizer.lr=tag(log,interval(1e-4,1e-1)) model.dropout_rate=interval(0,0.5)",
        "search": {"sampler": "tpe", "trials": 7, "parallel": 2, "startup": 2},
    },
}
NOT_COMPARED = ("seconds", "peak_memory_mb", "images_per_second")


class Study:
    """Calls of the study in a folder.

    Args:
        folder: for the study's file, and what it leaves.
        workers: trials side by side.
        phases: of the study.
    """

    def __init__(self, folder: Path, workers: int, phases: dict[str, Any]) -> None:
        self.folder = folder
        (folder / "slow").mkdir()
        (folder / "slow" / "sitecustomize.py").write_text(SLOW)
        (folder / "confs" / "study").mkdir(parents=True)
        text = "# @package _global_\n" + yaml.safe_dump(
            STUDY | {"study": STUDY["study"] | {"phases": phases}}, sort_keys=False
        )
        (folder / "confs" / "study" / "kills.yaml").write_text(text)
        parallel = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}"]
        self.words = ["--config-dir", "confs", "study=kills", *(parallel if workers > 1 else [])]
        self.temporary = Path(tempfile.mkdtemp(dir="/dev/shm"))

    def start(self, *words: str, slow: bool) -> subprocess.Popen[bytes]:
        path = [str(self.folder / "slow")] if slow else []
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *self.words, *words],
                cwd=self.folder,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(path), "TMPDIR": str(self.temporary)}
                | {"OMP_NUM_THREADS": "1"},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def completed(directory: Path) -> dict[str, str]:
    """The metrics of each completed run, as a hash with the time of its last epoch."""
    found = {}
    for path in sorted(directory.glob("*/*/record.json")):
        if json.loads(path.read_text())["status"] == "completed":
            metrics = path.with_name("metrics.csv")
            held = hashlib.sha256(metrics.read_bytes()).hexdigest()
            found[str(path.parent)] = f"{held} {metrics.stat().st_mtime_ns}"
    return found


def table(path: Path) -> list[list[str]]:
    """A table without what depends on the clock."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [[value for key, value in row.items() if key not in NOT_COMPARED] for row in rows]


def tables(directory: Path) -> dict[str, list[list[str]]]:
    """Those of the phases, and every run's metrics."""
    paths = [*directory.glob("*/sweep.csv"), *directory.glob("*/*/metrics.csv")]
    return {str(path.relative_to(directory)): table(path) for path in sorted(paths)}


def main() -> None:
    """Kill, continue, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--search", action="store_true")
    args = parser.parse_args()
    phases = SEARCH if args.search else STUDY["study"]["phases"]
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        study = Study(Path(name), args.workers, phases)
        begun = time.monotonic()
        if study.start(slow=False).wait() != 0:
            sys.exit((Path(name) / "said.txt").read_text())
        seconds = time.monotonic() - begun
        killed, calls, directory = 0, 0, Path(name) / "killed"
        while True:
            before = completed(directory)
            process = study.start("hydra.sweep.dir=killed", slow=killed < args.kills)
            calls += 1
            if killed < args.kills:
                try:
                    # a process imports torch first; a kill in there finds nothing to break
                    process.wait(draw.uniform(4.0, max(seconds / 2, 8.0)))
                except subprocess.TimeoutExpired:
                    alone = draw.random() < 0.5  # its workers end by themselves
                    (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
                    killed += 1
            code = process.wait()
            assert before.items() <= completed(directory).items(), "a finished run was touched"
            print(
                f"call {calls}: exit {code}, {len(completed(directory))} runs complete", flush=True
            )
            if code == 0 and killed >= args.kills:
                break
            if code == 0:  # done too early: begin anew elsewhere, and go on killing
                directory.rename(directory.with_name(f"done-{calls}"))
        done = [directory, *Path(name).glob("done-*")]
        wanted = tables(Path(name) / "undisturbed")
        assert wanted
        for each in done:
            assert tables(each) == wanted, each
        left = list(study.temporary.rglob("*.ckpt*"))
        assert not left, left
        print(
            f"{killed} kills, {len(done)} studies, {len(wanted)} tables each: the same to the bit"
        )


if __name__ == "__main__":
    main()
