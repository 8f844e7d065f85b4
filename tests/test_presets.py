"""Recipes that have a file for each task: `preset=strong`, `few_images`, `large`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from omegaconf import DictConfig

from phasewise.config.choices import variants
from phasewise.config.command_line import CommandLine
from phasewise.errors import UserError
from phasewise.project import CONF
from phasewise.records.record import read_record
from phasewise.training.run import train
from tests.conftest import TINY_RUNS

Make = Callable[..., DictConfig]
TASKS = ("localization", "multitask", "reid", "segmentation")
PRESETS = ("few_images", "large", "strong")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", PRESETS)
def test_each_task_has_its_own_and_what_is_typed_wins(
    make_config: Make, preset: str, task: str
) -> None:
    assert sorted(variants(CONF / "preset" / f"{preset}.yaml")) == [*TASKS]
    plain = make_config(f"task={task}")
    words = (f"task={task}", f"preset={preset}", "model.pretrained=false")
    made = make_config(*words, "optimizer.lr=0.123")
    assert made.optimizer.lr == 0.123
    assert made.finetuning.ema is not None is plain.finetuning.ema
    assert made.data.image_size > plain.data.image_size
    assert make_config(*words, "data.batch_size=8", "data.image_size=64").data.batch_size == 8


@pytest.mark.parametrize("task", TASKS)
def test_steps_and_not_epochs_end_it(make_config: Make, task: str, tmp_path: Path) -> None:
    tiny = [word for word in TINY_RUNS[task] if not word.startswith("trainer.max_epochs=")]
    words = ("data.image_size=64", "trainer.max_steps=3", "model.pretrained=false", "test=false")
    train(make_config(f"task={task}", "preset=strong", *tiny, *words), tmp_path)
    record = read_record(tmp_path)
    assert record is not None and record.status == "completed"
    kept = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=False)
    assert 0 < kept["global_step"] <= 3


@pytest.fixture
def own() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.mark.usefixtures("own")
def test_a_task_without_a_file_is_told_and_not_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def known(path: object) -> dict[str, object]:
        return {"reid": path} if str(path).endswith("strong.yaml") else {}

    monkeypatch.setattr("phasewise.config.choices.variants", known)
    words = ["hydra/sweeper=basic", "preset=strong"]
    assert CommandLine([*words, "task=reid"], CONF, "config").compose(False)
    with pytest.raises(UserError) as error:
        CommandLine([*words, "task=segmentation"], CONF, "config").compose(False)
    assert str(error.value).startswith("preset=strong: belongs to task=reid")


@pytest.mark.usefixtures("own")
def test_so_is_one_of_a_preset_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "preset" / "mine").mkdir(parents=True)
    for file in ("mine.yaml", "mine/reid.yaml"):
        (tmp_path / "preset" / file).write_text("# @package _global_\nseed: 7\n")
    words = ["hydra/sweeper=basic", f"hydra.searchpath=[file://{tmp_path}]", "preset=mine"]
    assert CommandLine([*words, "task=reid"], CONF, "config").compose(False)[0].seed == 7
    with pytest.raises(UserError, match="preset=mine: belongs to task=reid"):
        CommandLine([*words, "task=segmentation"], CONF, "config").compose(False)
