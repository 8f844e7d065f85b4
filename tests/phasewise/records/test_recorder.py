"""`phasewise.records.recorder`: the record of any loop, however it ends."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from phasewise.errors import DivergedError, UserError
from phasewise.records import Recorder
from phasewise.records.current import recording
from phasewise.records.job import override_of
from phasewise.records.lock import is_held, locked
from phasewise.records.record import RunRecord, read_record
from tests.conftest import ROOT

SCORES = [0.2, 0.7, math.nan, 0.6]


def content(directory: Path) -> dict[str, Any]:
    found = json.loads((directory / "record.json").read_text())
    assert isinstance(found, dict)
    return found


def train(directory: Path, scores: list[float] = SCORES, **more: Any) -> Recorder:
    with Recorder(directory, "val/acc", **({"config": {"lr": 0.1}, "seed": 3} | more)) as run:
        for epoch, score in enumerate(scores, 1):
            run.log({"train/loss": 1 / epoch}, epoch=epoch)
            run.log({"val/acc": np.float32(score)}, epoch=epoch)
        run.cost(parameters=12)
        run.baseline("majority", {"val/acc": 0.1})
        run.data(counts={"train": 8})
        run.headline("acc")
        run.checkpoints(best=directory / "w" / "a.bin", last="/elsewhere/b.bin")
    return run


def loop(directory: Path, *epochs: dict[str, Any], error: BaseException | None = None) -> None:
    """What `Recorder` sees of a loop: metrics by epoch, and what ends it."""
    with Recorder(directory, "val/acc") as run:
        for metrics in epochs:
            run.log(metrics)
        if error is not None:
            raise error


def test_a_loop_leaves_what_a_run_leaves(tmp_path: Path) -> None:
    run = train(tmp_path)
    found = content(tmp_path)
    assert (found["schema"], found["status"], found["error"]) == (1, "completed", None)
    assert found["objective"] == {
        "metric": "val/acc",
        "mode": "max",
        "value": pytest.approx(0.7),
        "epoch": 2,
    }
    assert found["best"] == {"train/loss": 0.5, "val/acc": pytest.approx(0.7)}
    assert found["last"] == {"train/loss": 0.25, "val/acc": pytest.approx(0.6)}
    assert (found["overrides"], found["seed"], found["test"]) == (["lr=0.1"], 3, None)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["val/acc"]) for row in rows] == pytest.approx(SCORES, nan_ok=True)
    assert found["baselines"] == {"majority": {"val/acc": 0.1}}
    assert (found["data"], found["headline"]) == ({"counts": {"train": 8}}, ["acc"])
    assert found["checkpoints"] == {"best": "w/a.bin", "last": "/elsewhere/b.bin"}
    cost = found["cost"]
    assert (cost["epochs"], cost["parameters"]) == (4, 12)
    assert cost["seconds_per_epoch"] == median(float(row["seconds"]) for row in rows)
    assert cost["seconds"] >= sum(float(row["seconds"]) for row in rows) - 0.004  # rounded ones
    assert cost["peak_memory_mb"] > 10
    assert run.value == pytest.approx(0.7)
    assert not is_held(tmp_path)


def test_the_lowest_is_best_where_less_is_better(tmp_path: Path) -> None:
    run = train(tmp_path, mode="min")
    assert (run.value, run.best["epoch"]) == (pytest.approx(0.2), 1)


def test_while_it_runs_the_record_says_so_and_the_directory_is_held(tmp_path: Path) -> None:
    with Recorder(tmp_path, "val/acc", config={}) as run:
        assert content(tmp_path)["status"] == "running"
        assert is_held(tmp_path)
        run.log(epoch=1, **{"val/acc": 0.5})
        assert (tmp_path / "metrics.csv").read_text().count("\n") == 2
    with locked(tmp_path, wait=False), Recorder(tmp_path, "val/acc") as run:  # by this process
        run.log({"val/acc": 0.5})
    assert content(tmp_path)["status"] == "completed"


class OutOfMemoryError(RuntimeError):
    """As torch and CuPy call theirs."""


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("no such layer"), "failed", "ValueError: no such layer"),
        (UserError("lr=-1 must be above 0"), "failed", "lr=-1 must be above 0"),
        (MemoryError("12 GiB"), "out_of_memory", "MemoryError: 12 GiB"),
        (OutOfMemoryError("CUDA"), "out_of_memory", "OutOfMemoryError: CUDA"),
        (RuntimeError("RESOURCE_EXHAUSTED: 8G"), "out_of_memory", "RuntimeError: RES"),
        (KeyboardInterrupt(), "interrupted", "stopped from outside"),
        (DivergedError("too high"), "diverged", "too high"),
        (OSError(28, "No space left on device", "/disk/x"), "interrupted", "/disk/x"),
    ],
)
def test_an_error_is_recorded_and_passed_on(
    error: BaseException, status: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        loop(tmp_path, {"val/acc": 0.5}, error=error)
    found = content(tmp_path)
    assert found["status"] == status
    assert found["error"].startswith(reason)
    assert (found["cost"]["epochs"], found["best"]) == (1, {"val/acc": 0.5})
    assert not is_held(tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"^train/loss became nan in epoch 2$"):
        loop(tmp_path, *({"train/loss": loss, "val/acc": 0.5} for loss in (1.0, math.nan)))
    assert content(tmp_path)["status"] == "diverged"
    assert content(tmp_path)["last"] == {"train/loss": None, "val/acc": 0.5}


def test_an_undefined_objective_is_none(tmp_path: Path) -> None:
    run = train(tmp_path, [math.nan, math.inf])
    assert math.isnan(run.value)
    assert content(tmp_path)["status"] == "completed"
    assert content(tmp_path)["objective"]["value"] is None


@pytest.mark.parametrize(
    ("logged", "said"),
    [
        ({"val/ac": 0.5}, "val/acc, the objective, was never logged, but val/ac; did you mean"),
        ({}, "val/acc, the objective, was never logged; nothing else was either"),
    ],
)
def test_a_run_without_its_objective_has_failed(
    logged: dict[str, float], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        loop(tmp_path, *([logged] if logged else []))
    found = content(tmp_path)
    assert (found["status"], said in found["error"]) == ("failed", True)


@pytest.mark.parametrize("value", ["0.5", None, [1.0, 2.0], np.zeros(2)])
def test_a_metric_is_a_number(value: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^val/acc=.*: a metric must be one number$"):
        loop(tmp_path, {"val/acc": value})


def test_what_cannot_be_begun_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be max or min"):
        Recorder(tmp_path, "val/acc", "maximum")
    with pytest.raises(UserError, match="the directory of the run"):
        Recorder(objective="val/acc").start()
    with pytest.raises(UserError, match="objective=METRIC"):
        Recorder(tmp_path).start()
    with Recorder(tmp_path, "a") as run:
        run.log({"a": 1}, epoch=2)
        with pytest.raises(UserError, match="the last one was 2"):
            run.log({"a": 1}, epoch=1)


def test_a_completed_run_says_so_and_stays_unless_it_is_logged_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path)
    before = (tmp_path / "record.json").read_bytes()
    caplog.set_level("INFO")
    with Recorder(tmp_path, "val/acc", config={"lr": 0.1}, seed=3) as run:
        assert run.done
        assert run.value == pytest.approx(0.7)
    assert (tmp_path / "record.json").read_bytes() == before
    assert "holds this run already, completed" in caplog.text
    with Recorder(tmp_path, "val/acc", config={"lr": 0.1}, seed=3) as run:
        run.test({"test/acc": 0.65})
    assert content(tmp_path)["test"] == {"test/acc": 0.65}
    assert content(tmp_path)["best"] == {"train/loss": 0.5, "val/acc": pytest.approx(0.7)}
    train(tmp_path, [0.1])
    assert content(tmp_path)["cost"]["epochs"] == 1
    assert content(tmp_path)["test"] is None


def test_a_run_of_other_settings_is_not_written_over(tmp_path: Path) -> None:
    train(tmp_path)
    before = (tmp_path / "record.json").read_bytes()
    for other in ({"config": {"lr": 0.2}}, {"seed": 4}):
        with pytest.raises(UserError, match=r"holds a run of other settings \(lr=0.1\)"):
            train(tmp_path, **other)
    assert (tmp_path / "record.json").read_bytes() == before


LOOP = """
import os, sys
from phasewise.records import Recorder
first, stop = map(int, sys.argv[2:])
with Recorder(sys.argv[1], "val/acc", config={"lr": .1}) as run:
    for epoch in range(first, 6):
        run.log({"val/acc": epoch / 10}, epoch=epoch)
        if epoch == stop:
            os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_or_begins_anew(tmp_path: Path) -> None:
    def call(first: int, stop: int) -> int:
        command = [sys.executable, "-c", LOOP, str(tmp_path), str(first), str(stop)]
        return subprocess.run(command, check=False, cwd=ROOT).returncode

    assert call(1, 3) == -signal.SIGKILL
    assert content(tmp_path)["status"] == "running"
    assert not is_held(tmp_path)
    assert call(4, 0) == 0  # from its own checkpoint
    record = read_record(tmp_path)
    assert (record.status, record.cost["epochs"], record.best["val/acc"]) == ("completed", 5, 0.5)
    os.remove(tmp_path / "record.json")
    assert call(1, 0) == 0
    assert read_record(tmp_path).cost["epochs"] == 5


@pytest.mark.parametrize(
    "value",
    [
        1,
        1e-3,
        True,
        None,
        "relu",
        "it's",
        "a\\",
        "a\\'b",
        "x, y",
        "1",
        "true",
        "",
        "nan",
        ["a b", 2],
    ],
)
def test_settings_are_words_that_hydra_reads_back(value: Any) -> None:
    parsed = OverridesParser.create().parse_override(override_of("a.b", value))
    assert (parsed.key_or_group, parsed.value()) == ("a.b", value)


def test_runs_of_a_plain_loop_are_a_study(tmp_path: Path) -> None:
    from phasewise.study.read import read_study

    for lr in (0.1, 0.2):
        for seed in (0, 1):
            train(tmp_path / f"{lr}_{seed}", [lr, lr + seed / 100], config={"lr": lr}, seed=seed)
    (phase,) = read_study(tmp_path).phases
    assert (phase.keys, phase.plan.seeds) == (["lr"], [0, 1])
    assert [one.values for one in phase.candidates] == [
        {0: pytest.approx(0.1), 1: pytest.approx(0.11)},
        {0: pytest.approx(0.2), 1: pytest.approx(0.21)},
    ]
    assert phase.plan.winner == 1


@pytest.mark.parametrize(
    ("told", "own", "value"),
    [("val/acc", None, 0.7), ("train/loss", "val/acc", 1.0), ("result", "val/acc", 0.7)],
)
def test_in_a_trial_the_record_that_the_study_began_is_the_runs(
    told: str, own: str | None, value: float, tmp_path: Path
) -> None:
    part = {"name": "s", "places": [{"phase": "p", "number": 1, "role": "candidate"}]}
    begun = RunRecord.start(
        tmp_path,
        task="app",
        fingerprint="abc",
        overrides=["lr=1"],
        seed=5,
        metric=told,
        mode="max",
        study=part,
    )
    run = Recorder(objective=own, mode="min")
    with locked(tmp_path, wait=False), recording(begun), run:
        run.log({"val/acc": 0.7, "train/loss": 1.0})
    found = content(tmp_path)
    assert found["objective"] == {"metric": told, "mode": "max", "value": value, "epoch": 1}
    assert (found["task"], found["fingerprint"], found["seed"]) == ("app", "abc", 5)
    assert (found["overrides"], found["study"], found["status"]) == (["lr=1"], part, "completed")
    assert run.value == value


APPLICATION = """
import hydra
from omegaconf import DictConfig
from phasewise.records import Recorder

@hydra.main(config_path=".", config_name="app", version_base="1.3")
def main(cfg: DictConfig) -> float:
    with Recorder(objective="val/acc") as run:
        if run.done:
            return run.value
        open("calls", "a").write("x")
        run.log({"val/acc": 1 - cfg.lr})
    return run.value

main()
"""


@pytest.mark.slow
def test_in_a_job_of_hydra_place_words_and_seed_are_the_jobs(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "app.yaml").write_text("lr: 0.1\nseed: 7\n")

    def call(*words: str) -> str:
        command = [sys.executable, "app.py", "hydra.run.dir=out", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, check=False, text=True, capture_output=True
        )
        return done.stdout + done.stderr

    call("lr=0.25")
    found = content(tmp_path / "out")
    assert (found["status"], found["task"], found["seed"]) == ("completed", "app", 7)
    assert (found["overrides"], found["objective"]["value"]) == (["lr=0.25"], 0.75)
    call("lr=0.25")
    assert (tmp_path / "calls").read_text() == "x"
    assert "holds a run of other settings (lr=0.25)" in call("lr=0.5")
    assert content(tmp_path / "out") == found
