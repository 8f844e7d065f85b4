"""Halving in an application that this project has never seen, and that knows no epochs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phasewise.study.journal import load_journal

ROOT = Path(__file__).parents[3]
APP = """
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    return cfg.n_estimators / 90 - abs(cfg.depth - 3) / 10

if __name__ == "__main__":
    main()
"""
CONFIG = """
defaults: [_self_, {override hydra/sweeper: phasewise}]
depth: 1
n_estimators: 90
study:
  mode: max
  report: false
  phases:
    depth: {overrides: "depth=1,2,3,4", halving: HALVING}
"""


def call(app: Path, halving: str) -> subprocess.CompletedProcess[str]:
    (app / "conf").mkdir(exist_ok=True)
    (app / "app.py").write_text(APP)
    (app / "conf" / "config.yaml").write_text(CONFIG.replace("HALVING", halving))
    return subprocess.run(
        [sys.executable, "app.py", "-m", "hydra.sweep.dir=out"],
        cwd=app,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_each_rung_is_a_run_of_its_own(tmp_path: Path) -> None:
    done = call(tmp_path, "{key: n_estimators, values: [10, 90], factor: 4}")
    assert done.returncode == 0, done.stderr
    (phase, *_) = load_journal(tmp_path / "out").phases
    assert [one.epochs for one in phase.candidates] == [None, 10, None, 10]
    assert phase.winner == 2
    assert phase.halving is not None
    assert (phase.halving.full, phase.halving.spent) == (4 * 90, 4 * 10 + 2 * 90)
    lower = sorted(path.parent.name for path in tmp_path.glob("out/depth/rungs/*/record.json"))
    assert lower == [f"depth={depth},n_estimators=10" for depth in range(1, 5)]


@pytest.mark.slow
def test_epochs_are_refused_where_nothing_pauses(tmp_path: Path) -> None:
    done = call(tmp_path, "{epochs: 1}")
    assert done.returncode == 2
    assert "epochs needs trainer.pause_after, which this application does not have" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "study.json").exists()
