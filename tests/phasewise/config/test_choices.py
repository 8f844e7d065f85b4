"""A choice with a file for each task: `data=coco` is boxes for one, boxes and masks for another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from phasewise.config.choices import file_for, group_of, tasks_of, variants
from phasewise.config.command_line import CommandLine
from phasewise.config.defaults import data_choice
from phasewise.config.help import help_text
from phasewise.errors import UserError
from phasewise.project import CONF

TASKS = ("localization", "multitask", "reid", "segmentation")
COCO = CONF / "data" / "coco.yaml"


@pytest.fixture(autouse=True)
def initialised() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def line(*words: str) -> CommandLine:
    return CommandLine(["hydra/sweeper=basic", *words], CONF, "config")


def refused(*words: str, multirun: bool = False) -> str:
    with pytest.raises(UserError) as error:
        line(*words).compose(multirun)
    return str(error.value).partition("\n")[0]


def test_the_files_of_a_choice() -> None:
    assert list(variants(COCO)) == ["localization", "multitask"]
    assert tasks_of(COCO, TASKS) == ["localization", "multitask"]
    assert tasks_of(CONF / "data" / "voc.yaml", TASKS) == ["multitask"]
    assert tasks_of(CONF / "optimizer" / "sgd.yaml", TASKS) == [*TASKS]
    assert file_for(COCO, "multitask") == CONF / "data" / "coco" / "multitask.yaml"
    assert file_for(COCO, "reid") == COCO
    assert group_of(COCO) == group_of(file_for(COCO, "multitask")) == "data"


@pytest.mark.parametrize("choice", ["coco", "yolo"])
@pytest.mark.parametrize("task", ["localization", "multitask"])
def test_each_task_has_its_own(task: str, choice: str) -> None:
    cfg, _ = line(f"data={choice}", f"task={task}", "data.root=x").compose(False)
    assert cfg.data._target_.startswith(f"{task}.")
    assert ("object" in cfg.data) == (task == "localization")
    config = {"data": {"_target_": cfg.data._target_}, "task": {"name": task}}
    assert data_choice(config) == choice
    text = help_text(cfg, CONF, "train.py", 200)
    assert f"data={choice} " in text
    assert "data.root=x" in text
    assert ("data.object=largest" in text) == (task == "localization")


def test_a_task_that_has_none() -> None:
    told = (
        "data=coco: belongs to task=localization or multitask; this task reads only data=folder, "
    )
    assert refused("data=coco", "task=reid").startswith(told)
    assert refused("data=cocoo", "task=reid").startswith("data=cocoo: not one of ")
    cfg, _ = line("task=reid").compose(False)
    assert "data=coco " not in help_text(cfg, CONF, "train.py", 200)


def test_keys_of_the_other_task_are_not_offered() -> None:
    told = refused("data=coco", "data.root=x", "data.object=only")
    assert told.startswith("data.object: no such key with data=coco; it belongs to data=csv or ")
    told = refused("data=voc_boxes", "task=localization", "data.crowds=auto")
    assert told.endswith("it belongs to data=coco")


def test_keys_of_a_swept_choice_are_those_of_the_task(tmp_path: Path) -> None:
    words = ("task=localization", f"data.root={tmp_path}", "data.crowds=auto,objects")
    assert line(*words, "data=csv,coco").compose(True)[1]
    assert "data.crowds: no such key" in refused(*words, "data=csv,yolo", multirun=True)


def test_a_file_that_another_one_hides_is_told(tmp_path: Path) -> None:
    """Hydra would take the one beside config.yaml and say nothing."""
    (tmp_path / "preset").mkdir()
    for name in ("reid_strong", "mine"):
        (tmp_path / "preset" / f"{name}.yaml").write_text("# @package _global_\nseed: 7\n")
    path = f"hydra.searchpath=[file://{tmp_path}]"
    assert line(path, "preset=mine").compose(False)[0].seed == 7
    told = refused(path, "preset=reid_strong")
    assert told.startswith(f"preset=reid_strong: {CONF.resolve()}/preset/reid_strong.yaml would be")
    assert told.endswith(f"not {tmp_path}/preset/reid_strong.yaml; give that another name")
