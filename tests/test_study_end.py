"""The end of a real study: what is scored, what is kept, what its report shows of that."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phasewise.records.record import load_record
from phasewise.study.ensemble import read_ensemble
from phasewise.study.journal import load_journal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
STUDY = """\
# @package _global_
# Two seeds of a network that is small.
defaults:
  - override /task: segmentation
data: {image_size: 32, train_images: 8, val_images: 4, test_images: 4, batch_size: 4, beads: 8}
model: {width: 4}
trainer: {max_epochs: 1, accelerator: cpu}
figures: {images: 0}
study:
  name: tiny
  phases:
    rate: optimizer.lr=1e-3,3e-3
    again: {rerun: {top: 2, overrides: trainer.max_epochs=2, compare: true}, seeds: [0, 1]}
hydra:
  mode: MULTIRUN
"""


def test_the_seeds_are_one_network_in_the_final_table(tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "study"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(STUDY)
    out = tmp_path / "out"
    words = [f"hydra.sweep.dir={out}", f"data.cache_dir={tmp_path / 'cache'}"]
    command = [sys.executable, "train.py", "--config-dir", str(tmp_path / "conf"), "study=tiny"]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *words], cwd=ROOT, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("disk: about") == 1
    assert "trained again" not in done.stdout  # the start is tested, and kept until then

    test = load_journal(out).phases[-1]
    final, start = (
        [load_record(out / trial.directory) for trial in one.trials] for one in test.candidates
    )
    assert [record.seed for record in final] == [record.seed for record in start] == [0, 1]
    assert all(record.test for record in (*final, *start))
    ensemble = read_ensemble(out / "test", final)
    assert ensemble is not None
    assert read_ensemble(out / "test", start) is None  # of other runs it is not
    with (out / "tables" / "final.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    for name in ("test/jaccard", "test/dice", "test/soft_jaccard"):
        value = ensemble["figures"][name]["value"]
        assert float(rows[name]["ensemble of 2 seeds mean"]) == pytest.approx(value)
        seeds = [(record.test or {})[name] for record in final]
        mean = float(rows[name]["final configuration mean"])
        assert mean == pytest.approx(sum(seeds) / 2)
    for record in (*final, *start):  # for the intervals over seeds and items
        content = json.loads((record.directory / "evaluation/test/evaluation.json").read_text())
        assert content["difference_from_record"] <= 1e-6

    kept = sorted(str(path.relative_to(out).parents[1]) for path in out.rglob("*.ckpt"))
    places = {trial.directory for one in test.candidates for trial in one.trials}
    rate = load_journal(out).phases[0]
    assert rate.winner is not None
    places.add(rate.candidates[rate.winner].trials[0].directory)
    assert kept == sorted(places)
    (lost,) = {trial.directory for one in rate.candidates for trial in one.trials} - places
    told = subprocess.run(
        [sys.executable, "evaluate.py", f"checkpoint={out / lost}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert "phase rate; study.checkpoints=best" in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
