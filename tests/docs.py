"""Really runs the commands of README.md and the pages, at a tiny scale, in a clone: some minutes.

``python -m tests.docs [TEXT ...]``: all commands, or those that contain one of the texts. What is
committed counts. `tests/test_docs.py` checks the same commands in seconds, and computes nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import ROOT, SHARED, TINY_RUNS
from tests.documented import Command, commands, example, task_of, value, write_named_files

SETS = {
    **{"voc": "../shared/data/pennfudan_voc", "voc2012": "../shared/data/coco128_voc20"},
    **{"voc_boxes": "../shared/data/pets_heads", "pets": "pets"},
    **{"image_mask": "../shared/data/beads", "veri": "../shared/data/vehicle_reid_dev"},
}
"""What stands for PATH, by ``data=``: real data in that layout."""

OF_DRAWN_DATA = ("images", "identities", "cameras", "beads")
"""How keys end that real data have not."""

MINE = (
    "trainer.max_epochs=2",
    "study.phases.learning_rate.halving.epochs=1",
    "study.phases.longer.rerun.overrides='trainer.max_epochs=3'",
    "study.seeds=[0]",
)
"""For the README's study, whose phases have epochs of their own."""

FOLDERS = ("FOLDER", "photos", "queries", "cameras")
STUDIES = (
    *("outputs/studies/reid", "outputs/beads_256", "outputs/beads_512"),
    *("outputs/STUDY", "STUDY", "DIR"),
)
"""What the pages call folders of images, and studies; a copy of the demo stands for these."""

RUN = ("train.py", "evaluate.py", "predict.py", "export.py", "report.py", "use.py")
"""Scripts that are run; the last one is the example of how an exported network is used."""


def main() -> int:
    """Run them one after the other; 1 if any failed."""
    wanted = sys.argv[1:]
    chosen = {it.words: it for it in commands() if not wanted or any(w in str(it) for w in wanted)}
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        _furnish(clone)
        for command in chosen.values():
            failed += _report(clone, command)
        if (exported := clone / "outputs" / "mine" / "export" / "best.onnx").exists():
            shutil.copy(exported, clone)
            shutil.copy(clone / "photos" / "a.jpg", clone / "photo.jpg")
            (clone / "use.py").write_text(example("docs/after-training.md", "python"))
            failed += _report(clone, Command("docs/after-training.md", ("python", "use.py")))
    print(f"{failed} failed")
    return int(failed > 0)


def _report(clone: Path, command: Command) -> bool:
    """Run a command and say what became of it; whether it failed."""
    reason = _skipped(command)
    if reason is not None:
        print(f"skipped       {command}\n              ({reason})", flush=True)
        return False
    start = time.perf_counter()
    said = _run(clone, command)
    word = "FAILED" if said else "ok"
    print(f"{word:6}{time.perf_counter() - start:6.1f} s {command}", flush=True)
    if said:
        print(said, flush=True)
    return bool(said)


def _furnish(clone: Path) -> None:
    """What the pages take for granted: data, images, a study's file, runs."""
    if SHARED.is_dir():
        (clone.parent / "shared").symlink_to(SHARED)
        (clone / "pets" / "annotations").mkdir(parents=True)
        heads = SHARED / "data" / "pets_heads"
        (clone / "pets" / "images").symlink_to(heads / "JPEGImages")
        (clone / "pets" / "annotations" / "xmls").symlink_to(heads / "Annotations")
    (clone / "conf" / "study" / "mine.yaml").write_text(example("README.md"))
    write_named_files(clone)
    draw = np.random.default_rng(0)
    for name in FOLDERS:
        (clone / name / "below").mkdir(parents=True)
        for file in ("a.jpg", "b.png", "below/c.jpg"):
            Image.fromarray(draw.integers(0, 255, (48, 64, 3), np.uint8)).save(clone / name / file)
    runs = {f"outputs/{task}/RUN": [f"task={task}"] for task in TINY_RUNS}
    runs["RUN"] = ["task=localization"]
    if SHARED.is_dir():
        runs["RUN"] += ["data=voc_boxes", "data.root=PATH"]
    lines = [[*words, f"hydra.run.dir={directory}"] for directory, words in runs.items()]
    for words in (*lines, ["study=demo"]):
        command = Command("", ("python", "train.py", *words))
        if said := _run(clone, command):
            raise SystemExit(f"{command}\n{said}")


def _skipped(command: Command) -> str | None:
    """Why a command is not run; None where it is."""
    words, sweeper = command.arguments, value(command.arguments, "hydra/sweeper")
    data = value(words, "data") or ""
    checks: dict[str, Callable[[], bool]] = {
        "sets up, installs, measures or shows": lambda: command.script not in RUN,
        "how such a command looks": lambda: words in (["-m"], ["-m", "KEY=A,B"]),
        "needs an environment of its own": lambda: (
            sweeper == "optuna" and not find_spec("hydra_plugins.hydra_optuna_sweeper")
        ),
        "no data in this layout here": lambda: "data.root=PATH" in words and data not in SETS,
        "the real data sets (../shared) are not on this machine": lambda: (
            ("shared" in str(command) or "data.root=PATH" in words) and not SHARED.is_dir()
        ),
    }
    return next((reason for reason, holds in checks.items() if holds()), None)


def shrunk(words: list[str]) -> list[str]:
    """Words of ``train.py`` with those that make the training a matter of seconds."""
    if {"--help", "--cfg"} & set(words):
        return words
    real = value(words, "data") is not None
    own = value(words, "model.backbone") or value(words, "model.architecture")
    more = [
        word
        for word in TINY_RUNS[task_of(words)]
        if not (real and word.partition("=")[0].endswith(OF_DRAWN_DATA))
        and not (own and word.startswith("model."))
    ]
    if value(words, "preset") is not None:
        more.append("scheduler.warmup_epochs=0")  # else it is longer than the training
    more += MINE if value(words, "study") == "mine" else ()
    set_anew = {word.partition("=")[0] for word in more}
    return [*(word for word in words if word.partition("=")[0] not in set_anew), *more]


def _run(clone: Path, command: Command) -> str:
    """Run a command; what it said if it failed, else nothing."""
    words = command.arguments
    if "data.root=PATH" in words:
        path = f"data.root={SETS[value(words, 'data') or '']}"
        words = [path if word == "data.root=PATH" else word for word in words]
        if command.script == "evaluate.py":
            words.append("split=val")  # the heads of pets have no test list
    if command.script == "train.py":
        words = shrunk(words)
    named = {word.rpartition("=")[2] for word in words}
    for name in STUDIES:
        if name in named and not (clone / name).exists():
            shutil.copytree(clone / "outputs" / "studies" / "demo-full", clone / name)
    process = subprocess.Popen(
        [sys.executable, command.script, *words],
        cwd=clone,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    if "--watch" in words:  # which has no end
        first = process.stdout.readline()
        process.terminate()  # Ctrl-C means nothing to what a shell has started with &
        return "" if process.wait() == 143 and "report.html" in first else first
    said = process.stdout.read()
    lines = "\n".join(["", *said.splitlines()[-15:]]).replace("\n", "\n              ")
    return f"exit code {process.returncode}{lines}" if process.wait() else ""


if __name__ == "__main__":
    sys.exit(main())
