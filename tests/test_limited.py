"""Runs that evaluate a part of a split (``limit_val_batches``, ``limit_test_batches``): what they
are compared with is measured on that part too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from omegaconf import DictConfig, OmegaConf

from phasewise.data.datamodule import StoreDataModule
from phasewise.data.store import Store
from phasewise.inference.evaluation.command import main
from phasewise.records.record import read_record
from phasewise.training.build import build_data, build_module
from phasewise.training.module import TaskModule
from phasewise.training.run import train
from tests.conftest import TINY_RUNS, called

Make = Callable[..., DictConfig]


def seen(
    task: str, make_config: Make, look: Callable[[TaskModule, StoreDataModule, int], Any]
) -> tuple[Any, Any, Any]:
    """What a look gives that sees the first rows of the validation split, whose number it is told:
    under a limit, where the split ends there, and without one."""
    config: Any = OmegaConf.to_container(make_config(f"task={task}", *TINY_RUNS[task]))
    data = build_data(config)
    assert isinstance(data, StoreDataModule)
    data.setup()
    data.batch_size = 2
    module = build_module(config, data.describe())
    assert isinstance(module, TaskModule)
    stores = data.splits.stores
    rows = len(stores["val"]) // 4 * 2
    data.trainer = SimpleNamespace(limit_val_batches=rows // 2, world_size=1, global_rank=0)  # type: ignore[assignment]
    limited = look(module, data, rows)
    data.trainer = None
    whole = look(module, data, rows)
    stores["val"] = Store({field: stores["val"][field][:rows] for field in dict(stores["val"])})
    data.splits.names["val"] = data.splits.names["val"][:rows]
    return limited, look(module, data, rows), whole


@pytest.mark.parametrize("task", [*TINY_RUNS])
def test_trivial_predictors_see_what_the_network_sees(task: str, make_config: Make) -> None:
    """As they would where the split ends there."""

    def look(module: TaskModule, data: StoreDataModule, rows: int) -> Any:
        return module.baselines(data, "val")

    found, wanted, all_of_it = seen(task, make_config, look)
    for name, scores in wanted.items():
        assert found[name] == pytest.approx(scores, nan_ok=True), name
    assert str(found) != str(all_of_it)


@pytest.mark.slow
@pytest.mark.parametrize("task", [*TINY_RUNS])
def test_figures_are_of_the_images_that_metrics_are_of(task: str, make_config: Make) -> None:
    """They look as they would where the split ends there."""

    def look(module: TaskModule, data: StoreDataModule, rows: int) -> dict[str, bytes]:
        pixels = {}
        for name, figure in module.draw(data, "val", rows + 1).items():
            figure.set_dpi(30)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            pixels[name] = bytes(canvas.buffer_rgba())
        return pixels

    found, wanted, all_of_it = seen(task, make_config, look)
    assert found == wanted and found != all_of_it


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluating_the_whole_split_is_no_repetition(
    split: str, make_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ("trainer.limit_val_batches=1", "+trainer.limit_test_batches=1")
    words = ("data.batch_size=2", "test=true")
    cfg = make_config("task=localization", *TINY_RUNS["localization"], *words, *limits)
    train(cfg, tmp_path)
    quick = ("resamples=0", "figures=0", f"data.cache_dir={cfg.data.cache_dir}")
    code, out, errors = called(main, [f"checkpoint={tmp_path}", f"split={split}", *quick], capsys)
    assert code == 0, errors
    assert "note: this is the whole split; the run looked at some of its batches only" in out
    assert "the run's record" not in out


def test_a_run_writes_them_so(make_config: Make, tmp_path: Path) -> None:
    words = ("task=localization", *TINY_RUNS["localization"], "data.batch_size=1", "test=true")
    limits = ("trainer.limit_val_batches=0.5", "+trainer.limit_test_batches=3")
    train(make_config(*words, *limits), tmp_path / "limited")
    train(make_config(*words, "data.val_images=2", "data.test_images=3"), tmp_path / "small")
    limited, small = (read_record(tmp_path / name).baselines for name in ("limited", "small"))
    assert len(limited["mean_box"]) == 6
    assert limited == small
