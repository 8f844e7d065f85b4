"""Trials in other processes, by real command lines (launcher_toy.py) and one real training."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from joblib import cpu_count
from omegaconf import DictConfig

from phasewise.records.record import read_record
from phasewise.study.overrides import merge
from phasewise.training.run import train
from tests.conftest import TINY
from tests.phasewise.study.launched import ROOT, call, left, make_app, records, soon, start

pytestmark = pytest.mark.slow

NEEDS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
LAUNCHERS = (
    pytest.param(JOBLIB, id="joblib"),
    pytest.param(("hydra/launcher=submitit_local",), id="submitit"),
    pytest.param(("hydra/launcher=ray",), id="ray", marks=NEEDS_RAY),
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path)


def rows(app: Path) -> dict[str, dict[str, str]]:
    with (app / "out" / "sweep.csv").open(newline="") as file:
        return {row["optimizer.lr"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_study_is_the_same_wherever_it_runs(app: Path, launcher: tuple[str, ...]) -> None:
    name, runs = ("long", 6) if launcher == JOBLIB else ("short", 3)
    words = ("--config-dir", "extra", f"study={name}")
    here = call(app, *words, out="here")
    assert here.returncode == 0, here.stderr
    there = call(app, *words, *launcher, **dict.fromkeys(THREADS, ""))
    assert there.returncode == 0, there.stderr
    assert there.stderr == ""
    assert "by a trial" in here.stdout
    assert "by a trial" not in there.stdout
    assert "[rate 3/3 done]" in there.stdout
    assert records(app / "out") == records(app / "here")
    assert len(records(app / "out")) == runs
    journals = [json.loads((app / name / "study.json").read_text()) for name in ("out", "here")]
    assert journals[0]["phases"] == journals[1]["phases"]
    logs = sorted(app.glob("out/**/console.log"))
    assert len(logs) == runs
    for log in logs:
        assert "said by a trial" in log.read_text()
        assert "warned by a trial" in log.read_text()
        assert "echoed by a trial" in log.read_text()
    if launcher[0] != "hydra/launcher=ray":  # which gives a trial one core if it is told nothing
        cores = str(max(cpu_count() // 2, 1)) if launcher == JOBLIB else "1"
        assert {path.read_text() for path in app.glob("out/**/threads")} == {cores}
    again = call(app, *words, *launcher)
    assert again.returncode == 0, again.stderr
    assert records(app / "out") == records(app / "here")
    begun = [
        {
            str(path.relative_to(app / name)): path.read_text()
            for path in app.glob(f"{name}/**/begun")
        }
        for name in ("out", "here")
    ]
    assert begun[0] == begun[1]


@pytest.mark.parametrize("launcher", [LAUNCHERS[0], LAUNCHERS[2]])
def test_a_trial_that_kills_its_worker_takes_no_other_with_it(
    app: Path, launcher: tuple[str, ...]
) -> None:
    done = call(app, "-m", "optimizer.lr=1e-2,7,1e-3,8", *launcher, SECONDS_EACH="1")
    assert done.returncode == 1
    assert {lr: row["status"] for lr, row in rows(app).items()} == {
        **{"0.01": "completed", "0.001": "completed"},
        **{"7": "failed", "8": "failed"},
    }
    told = [line.strip() for line in done.stderr.splitlines()]
    assert "app.py: 2 of 4 trials did not complete:" in told
    died = "optimizer.lr=7: failed: its worker died 2 times; often the machine's memory ran out"
    assert any(it.startswith(died) for it in told)
    unsent = "optimizer.lr=8: failed: RuntimeError: UnsendableError: broken: on purpose"
    assert any(it.startswith(unsent) for it in told)
    assert "Traceback" not in done.stderr
    (killed,) = app.glob("out/optimizer.lr=7*")
    assert (killed / "begun").read_text() == "xx"
    record = read_record(killed)
    assert record is not None
    assert record.error is not None
    assert "\n" in record.error  # what the launcher said about it
    assert float(rows(app)["0.01"]["val/mIoU"]) > float(rows(app)["0.001"]["val/mIoU"]) > 0


SWEEP = ("-m", "optimizer.lr=1e-2,1e-3,2e-2", *JOBLIB)


@pytest.fixture
def busy(app: Path) -> Iterator[subprocess.Popen[str]]:
    """A sweep of which two trials are running."""
    with start(app, *SWEEP, SECONDS_EACH="60") as process:
        assert soon(lambda: len(list(app.glob("out/*/begun"))) == 2), process.communicate()
        yield process
        process.kill()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
class TestTheEndOfAStudyEndsItsWorkers:
    def test_ctrl_c_and_the_same_command_again(
        self, app: Path, busy: subprocess.Popen[str]
    ) -> None:
        os.killpg(busy.pid, signal.SIGINT)
        told, errors = busy.communicate(timeout=120)
        assert busy.returncode == 130
        assert errors.startswith("app.py: interrupted; to continue:\npython app.py -m ")
        assert told.count("unfinished") == 3
        assert soon(lambda: not left(busy.pid), 5), left(busy.pid)
        again = call(app, *SWEEP)
        assert again.returncode == 0, again.stderr
        assert {it["status"] for it in records(app / "out").values()} == {"completed"}

    def test_a_kill(self, app: Path, busy: subprocess.Popen[str]) -> None:
        busy.kill()
        assert soon(lambda: not left(busy.pid), 10), left(busy.pid)
        assert {record["status"] for record in records(app / "out").values()} == {"running"}


def test_a_training_is_the_same_beside_another(
    tmp_path: Path, cache: Path, make_config: Callable[..., DictConfig]
) -> None:
    words = merge(TINY, ["task=localization", "trainer.max_epochs=2"])
    command = [sys.executable, "train.py", "-m", *words, "seed=0,1", *JOBLIB]
    out = (
        f"data.cache_dir={cache}",
        f"hydra.sweep.dir={tmp_path / 'beside'}",
        "study.report=false",
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order differ in their last bits
    try:
        for seed in (0, 1):
            train(
                make_config(*words, f"seed={seed}"), tmp_path / "alone" / f"here{seed}", trial=True
            )
    finally:
        torch.set_num_threads(threads)
    subprocess.run(
        [*command, *out],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
        timeout=200,
    )
    found = records(tmp_path / "beside")
    assert len(found) == 2
    for name, record in found.items():
        figures = _figures(tmp_path / "beside" / name)
        assert len(figures) == 2
        assert figures == _figures(tmp_path / "alone" / f"here{record['seed']}")


def _figures(run: Path) -> list[dict[str, str]]:
    """What was measured, epoch by epoch."""
    with (run / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if "/" in key} for row in table]


@pytest.mark.skipif(find_spec("ray") is not None, reason="the extra ray is installed")
def test_what_is_not_installed_says_how_to_install_it(app: Path) -> None:
    done = call(app, *SWEEP[:2], "hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "app.py: hydra/launcher=ray: not installed; pip install -e '.[ray]' brings it\n"
    )


@pytest.mark.skipif(
    find_spec("hydra_plugins.hydra_optuna_sweeper") is None,
    reason="the extra optuna is not installed",
)
def test_optunas_sweeper(app: Path) -> None:
    words = ("optimizer.lr=tag(log,interval(1e-4,1))", "hydra.sweeper.direction=maximize")
    done = call(app, "-m", *words, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4")
    assert done.returncode == 0, done.stderr
    best = yaml.safe_load((app / "out" / "optimization_results.yaml").read_text())
    values = [it["objective"]["value"] for it in records(app / "out").values()]
    assert len(values) == 4
    assert best["best_value"] == max(values)


def test_a_sweeper_that_knows_no_phases_gets_none(app: Path) -> None:
    done = call(app, "--config-dir", "extra", "study=short", "hydra/sweeper=basic")
    assert done.returncode == 2
    assert "hydra/sweeper=basic: knows no phases" in done.stderr
    assert not (app / "out").exists()
