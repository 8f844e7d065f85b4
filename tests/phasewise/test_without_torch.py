"""An application of somebody who has no torch: its sweeps, their audit, their report."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from phasewise.records.record import read_record
from phasewise.study.read import read_study
from tests.conftest import REFUSED, ROOT, TORCH

pytestmark = pytest.mark.slow

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call() -> Call:
    """Python with some words, where some packages cannot be imported."""
    path = os.pathsep.join([str(REFUSED), str(ROOT)])

    def run(refused: Sequence[str], *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=cwd,
            env=os.environ | {"REFUSED": ",".join(refused), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


APP = """
import hydra
from hydra.core.hydra_config import HydraConfig
from sklearn.datasets import make_regression
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

from phasewise.config.fingerprint import fingerprint
from phasewise.records.history import History
from phasewise.records.record import RunRecord


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    place = HydraConfig.get().runtime.output_dir
    x, y = make_regression(60, 20, noise=20, random_state=cfg.seed)
    x, x_val, y, y_val = train_test_split(x, y, random_state=cfg.seed)
    words = HydraConfig.get().overrides.task
    record = RunRecord.start(
        place, task="ridge", fingerprint=fingerprint(cfg), overrides=words, seed=cfg.seed,
        metric="val/R2", mode="max",
    )
    model = Ridge(alpha=cfg.alpha, fit_intercept=cfg.intercept).fit(x, y)
    row = {"val/R2": float(model.score(x_val, y_val)), "train/R2": float(model.score(x, y))}
    History(record.directory).append({"epoch": 1, "seconds": 0.1, **row})
    record.finish("completed", value=row["val/R2"], epoch=1, best=row)
    return row["val/R2"]


main()
"""
CONFIG = "alpha: 1.0\nintercept: true\nseed: 0\n"


def test_an_application_without_torch_is_swept_audited_and_reported(
    call: Call, tmp_path: Path
) -> None:
    """One of scikit-learn's models, by an ``@hydra.main`` of somebody who has no torch."""
    folder = tmp_path / "app"
    (folder / "conf").mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / "conf" / "config.yaml").write_text(CONFIG)
    grid = ("alpha=0.1,10,1000", "intercept=true,false", "seed=0,1,2")
    done = call(
        TORCH, "app.py", "-m", *grid, "hydra/sweeper=phasewise", "hydra.sweep.dir=out", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    runs = [path.parent for path in (folder / "out").rglob("record.json")]
    assert len(runs) == 18
    (phase,) = read_study(folder / "out").phases
    alphas = {one.settings["alpha"] for one in phase.candidates if one.values}
    assert alphas == {0.1, 10, 1000}
    done = call(TORCH, "-m", "phasewise.report", "out", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    page = (folder / "out" / "report.md").read_text()
    assert "## Audit" in page
    assert "alpha mattered most" in page
    assert list((folder / "out" / "figures").glob("*.png"))
    record = read_record(runs[0])
    assert record is not None and "torch" not in record.environment
    refused = call(TORCH, "-c", "import torch", cwd=folder)
    assert "torch is refused here" in refused.stderr
