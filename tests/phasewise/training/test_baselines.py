"""The network before training, and the objective over items, as runs record them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

import phasewise.training.session
from phasewise.analysis.bootstrap import resample
from phasewise.inference.evaluation.data import open_data, with_data
from phasewise.inference.evaluation.measure import measure
from phasewise.inference.restore import restore
from phasewise.training.run import train
from tests.phasewise.training.directory import record_of, timeless
from tests.reid.conftest import TINY_REID
from tests.segmentation.conftest import TINY_BEADS

Make = Callable[..., DictConfig]


def test_a_run_that_starts_from_another_knows_how_good_it_was(
    make_config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(make_config(*TINY_BEADS), tmp_path / "one")
    first = record_of(tmp_path / "one")
    assert "untrained" not in first.baselines, "a head drawn at random"
    worse = ("optimizer.lr=10", f"init_from={tmp_path / 'one'}")
    train(make_config(*TINY_BEADS, *worse), tmp_path / "two")
    second = record_of(tmp_path / "two")
    assert first.test is not None
    known = {k: v for k, v in first.best.items() if k.startswith("val/")} | first.test
    start = second.baselines["untrained"]
    assert start.keys() == known.keys()
    for name, value in known.items():
        assert start[name] == pytest.approx(value, rel=1e-5), name
    better = start["val/jaccard"] >= second.best["val/jaccard"]
    assert ("worse_than_start: val/jaccard" in caplog.text) == better
    assert better, "at a learning rate of 10"


def test_trials_look_at_validation_data_alone(make_config: Make, tmp_path: Path) -> None:
    train(make_config(*TINY_REID), tmp_path, trial=True)
    start = record_of(tmp_path).baselines["untrained"]
    assert set(start) == {f"val/{name}" for name in ("mAP", "mINP", "rank1", "rank5", "rank10")}


def test_they_change_nothing_of_the_training(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make_config(*TINY_REID, "model.dropout_rate=0.3", "trainer.max_epochs=2")
    train(cfg, tmp_path / "with")
    for name in ("start_scores", "resampled_objective"):
        monkeypatch.setattr(phasewise.training.session, name, lambda *_, **__: {})
    train(cfg, tmp_path / "without")
    assert timeless(tmp_path / "with") == timeless(tmp_path / "without")
    one, other = (record_of(tmp_path / name) for name in ("with", "without"))
    assert one.test == other.test and one.best == other.best
    assert one.resampled and not other.resampled


@pytest.mark.parametrize("task", ["segmentation", "localization", "multitask", "reid"])
def test_the_objective_is_resampled_as_an_evaluation_does(
    tiny_run: Callable[[str], Path], task: str
) -> None:
    directory = tiny_run(task)
    record = record_of(directory)
    trained = restore(directory)
    data = open_data(with_data(trained.config, []))
    data.setup()
    found = measure(trained.module, data, "val", "32-true")
    assert found.items is not None
    drawn = resample(found.items, resamples=200, seed=0)
    metric = record.objective["metric"]
    kept = record.resampled
    assert (kept["metric"], kept["unit"]) == (metric, found.items.unit)
    assert kept["count"] == len(found.items.rows)
    values = [np.nan if it is None else it for it in kept["values"]]
    np.testing.assert_allclose(values, drawn[metric.removeprefix("val/")], rtol=1e-4, atol=1e-6)


def test_a_loss_is_not_resampled(make_config: Make, tmp_path: Path) -> None:
    words = ("objective.metric=val/loss", "objective.mode=min")
    train(make_config(*TINY_BEADS, *words), tmp_path)
    assert record_of(tmp_path).resampled == {}
