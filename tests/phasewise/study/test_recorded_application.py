"""Any Hydra application whose loop has a `phasewise.records.Recorder`, as trials of a study."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import phasewise
from tests.conftest import ROOT

APPLICATION = """
import os

import hydra
from omegaconf import DictConfig

from phasewise.records import Recorder


@hydra.main(config_path=".", config_name="app", version_base="1.3")
def main(cfg: DictConfig) -> None:
    with Recorder(objective="val/acc") as run:
        for epoch in range(1, 4):
            if os.environ.get("STOP") == f"{cfg.lr} {cfg.seed} {epoch}":
                os.kill(os.getpid(), 9)
            score = 1 - abs(cfg.lr - 0.1) + 0.01 * cfg.depth + 0.001 * cfg.seed
            run.log({"train/loss": 1 / epoch, "val/acc": score - abs(2 - epoch)}, epoch=epoch)
        run.test({"test/acc": score - 0.2})


main()
"""

CONFIG = """
defaults:
  - _self_
  - override hydra/sweeper: phasewise
lr: 0.01
depth: 1
seed: 0
study:
  objective: val/acc
  mode: max
  seeds: [0, 1]
  report: false
  phases:
    rate: lr=0.01,0.1
    depth: depth=1,2
"""

COLUMNS = ["phase", "candidate", "role", "seed", "lr", "depth", "status", "value", "epoch"]


def call(folder: Path, place: str, *words: str, stop: str = "") -> int:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "STOP": stop}
    command = [sys.executable, "app.py", "-m", f"hydra.sweep.dir={place}", *words]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True)
    return done.returncode


@pytest.mark.slow
def test_a_killed_study_of_recorded_loops_goes_on(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "app.yaml").write_text(CONFIG)
    assert call(tmp_path, "whole") == 0
    whole = phasewise.load(tmp_path / "whole")
    assert whole.best.overrides == ["lr=0.1", "depth=2"]
    assert whole.best.value == pytest.approx(1.0205)
    assert set(whole.trials["epoch"]) == {2}
    assert len(whole.history) == 3 * 6
    best = whole.trials[whole.trials["role"] == "final"]
    assert best["test/acc"].tolist() == pytest.approx([0.82, 0.821])

    assert call(tmp_path, "killed", stop="0.1 1 3") == -signal.SIGKILL
    place = tmp_path / "killed" / "rate" / "lr=0.1,seed=1"
    assert json.loads((place / "record.json").read_text())["status"] == "running"
    assert (place / "metrics.csv").read_text().count("\n") == 3
    assert call(tmp_path, "killed", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2") == 0
    killed = phasewise.load(tmp_path / "killed")
    assert killed.trials[COLUMNS].equals(whole.trials[COLUMNS])
    assert (place / "metrics.csv").read_text().count("\n") == 4  # begun anew

    (tmp_path / "killed" / "study.json").unlink()
    rebuilt = phasewise.load(tmp_path / "killed")
    assert rebuilt.phases["winner"].tolist() == whole.phases["winner"].tolist()
    assert rebuilt.best.overrides == whole.best.overrides
