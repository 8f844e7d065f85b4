"""What is true of trials wherever they run: the same figures, and no more lost than one trial."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from phasewise.study.overrides import merge
from tests.conftest import TINY
from tests.phasewise.study.launched import ROOT, call, make_app, records, soon, start

Words = Sequence[str]

TRIALS = 16
EPOCHS = 40
LONG = merge(TINY, ["task=localization", f"trainer.max_epochs={EPOCHS}"])
SWEEP = ("-m", *LONG, "optimizer.lr=1e-3,3e-3")
TRAININGS = (*SWEEP, "seed=0,1", "study.report=false")
ALONE = {"OMP_NUM_THREADS": "1"}  # sums in another order differ in their last bits


def say(check: Callable[..., str], *given: object) -> None:
    """Do a check, and say what was seen and how long it took."""
    begin = time.perf_counter()
    told = check(*given)
    print(f"{check.__name__:<32} {time.perf_counter() - begin:5.0f} s  {told}", flush=True)


def same_toys(folder: Path, launcher: Words) -> str:
    """A study of two phases, and a sweep of many trials, that train nothing."""
    app = make_app(folder)
    values = ",".join(f"{number}e-3" for number in range(10, 10 + TRIALS))
    for name, words in (
        ("study", ("--config-dir", "extra", "study=long")),
        ("sweep", ("-m", f"optimizer.lr={values}")),
    ):
        for out, more in ((f"{name}_here", ()), (f"{name}_there", launcher)):
            done = call(app, *words, *more, out=out)
            assert done.returncode == 0, done.stderr
        here, there = (records(app / f"{name}_{place}") for place in ("here", "there"))
        assert here == there
    tables = [(app / f"sweep_{place}" / "sweep.csv").read_bytes() for place in ("here", "there")]
    assert tables[0] == tables[1]
    return f"a study of 6 runs and a sweep of {len(here)}: records and tables equal byte for byte"


def same_trainings(folder: Path, launcher: Words) -> str:
    """Four real trainings, here in one process and there; leaves the table ``here``."""
    seconds = {}
    for out, more in (("here", ()), ("there", launcher)):
        begin = time.perf_counter()
        with train(folder / out, *more) as process:
            told, errors = process.communicate()
        assert process.returncode == 0, told + errors
        seconds[out] = time.perf_counter() - begin
    count = compare(folder / "here", folder / "there")
    return (
        f"4 trainings, {count} values of metrics.csv equal to the last bit; "
        f"{seconds['here']:.0f} s one after the other here, {seconds['there']:.0f} s there"
    )


def a_training_is_killed(folder: Path, launcher: Words, name: str = "killed") -> str:
    """``kill -9`` of one of two trainings; needs the table of `same_trainings`."""
    out = folder / name
    with train(out, *launcher) as process:
        assert soon(lambda: busy(out), 120), process.communicate()
        victim = busy(out)[0]
        os.kill(holder(victim), signal.SIGKILL)
        told, errors = process.communicate()
    assert process.returncode == 0, told + errors
    compare(folder / "here", out)
    logs = {path.parent: path.read_text() for path in out.glob("**/console.log")}
    again = [path for path, text in logs.items() if "continuing after epoch" in text]
    assert victim in again, logs
    epoch = logs[victim].split("continuing after epoch ")[1].split()[0]
    return (
        f"the killed training went on after epoch {epoch} of {EPOCHS}, the figures are the same "
        f"to the last bit; {len(again)} of 4 had to continue"
    )


def a_toy_is_killed(folder: Path, launcher: Words, kill: Callable[[Path], object]) -> str:
    """One of four trials dies once, by ``kill``, which gets its directory."""
    app = make_app(folder)
    words = ("-m", "optimizer.lr=1e-2,1e-3,2e-2,2e-3", *launcher)
    with start(app, *words, SECONDS_EACH="8") as process:
        assert soon(lambda: list(app.glob("out/*/begun"))), process.communicate()
        victim = next(app.glob("out/*/begun")).parent
        kill(victim)
        told, errors = process.communicate()
    assert process.returncode == 0, told + errors
    found = records(app / "out")
    assert [record["status"] for record in found.values()] == ["completed"] * 4
    begun = {path.parent: len(path.read_text()) for path in app.glob("out/*/begun")}
    assert begun[victim] == 2, begun
    return f"4 of 4 completed; begun {sorted(begun.values())} times"


def a_trial_kills_each_worker(folder: Path, launcher: Words) -> str:
    """One of four trials kills every process that runs it."""
    app = make_app(folder)
    done = call(app, "-m", "optimizer.lr=7,1e-2,1e-3,2e-3", *launcher)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "optimizer.lr=7: failed: its worker died 2 times" in done.stderr, done.stderr
    found = sorted(record["status"] for record in records(app / "out").values())
    assert found == ["completed"] * 3 + ["failed"]
    return "3 of 4 completed, one recorded as failed after its second worker"


def kill_process(directory: Path) -> None:
    """``kill -9`` of the process that works in a run's directory."""
    os.kill(holder(directory), signal.SIGKILL)


def train(out: Path, *words: str) -> subprocess.Popen[str]:
    place = (f"hydra.sweep.dir={out}", f"data.cache_dir={out.parent / 'cache'}")
    return subprocess.Popen(
        [sys.executable, "train.py", *TRAININGS, *words, *place],
        cwd=ROOT,
        env=os.environ | ALONE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def busy(out: Path) -> list[Path]:
    """Directories of trainings with some epochs behind them and more before them."""
    rows = {path.parent: len(path.read_text().splitlines()) for path in out.glob("**/metrics.csv")}
    return [path for path, count in rows.items() if 3 < count < EPOCHS - 5]


def holder(directory: Path) -> int:
    """The process that has the lock of a run's directory."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink() == directory / ".lock":
                return int(link.parts[2])
    raise AssertionError(f"nobody works in {directory}")


def compare(here: Path, there: Path) -> int:
    """Both places hold the same runs with the same figures; returns how many."""
    tables = {}
    for place in (here, there):
        tables[place] = {
            str(path.parent.relative_to(place)): _figures(path)
            for path in sorted(place.glob("**/metrics.csv"))
        }
        assert {it["status"] for it in records(place).values()} == {"completed"}
    assert len(tables[here]) == 4
    assert tables[here] == tables[there]
    return sum(len(row) for rows in tables[here].values() for row in rows)


def _figures(path: Path) -> list[dict[str, str]]:
    """What was measured, epoch by epoch; not how long it took."""
    with path.open(newline="") as file:
        rows = [{k: v for k, v in row.items() if "/" in k} for row in csv.DictReader(file)]
    assert len(rows) == EPOCHS
    return rows
