"""All tasks train on a device that is not the processor, and the processor does not wait for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from phasewise.records.history import read_history
from tests.conftest import ROOT, TINY_RUNS
from tests.pretended.device import NAME

pytestmark = pytest.mark.slow

STEPS = 2
"""Of the epoch that is looked at."""


def test_a_device_computes_the_same_and_no_step_waits_for_it(tmp_path: Path) -> None:
    """But for the number of FCOS's points, which two questions in a row ask for."""
    command = [sys.executable, "-m", "tests.pretended.train", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    waits = json.loads(done.stdout)
    assert waits.keys() == TINY_RUNS.keys()
    for task, stages in waits.items():
        assert_same_figures(tmp_path / "cpu" / task, tmp_path / NAME / task)
        # an epoch ends with figures that the processor writes down: waits are seen
        assert any("_local_scalar_dense" in it and "callbacks.py" in it for it in stages["around"])
        training = stages.get("training", {})
        if task == "multitask":
            assert sum(training.values()) == 2 * STEPS
            assert all(it.startswith("aten.nonzero.default losses.py") for it in training)
        else:
            assert training == {}, task


def assert_same_figures(here: Path, there: Path) -> None:
    rows = list(zip(read_history(here), read_history(there), strict=True))
    assert len(rows) == 2
    for mine, theirs in rows:
        assert mine.keys() == theirs.keys()
        assert theirs["train/loss"] == pytest.approx(mine["train/loss"], rel=1e-5)
    assert len(list((there / "figures").glob("*.png"))) >= 3
