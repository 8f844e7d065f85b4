"""What is said about keys: comments, the help page, the nearest match."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import DictConfig
from pydantic import BaseModel, ValidationError

from phasewise.cli.main import CommandLine
from phasewise.config.help import (
    config_groups,
    examples,
    help_text,
    key_comments,
    nearest_key,
    no_such_key,
    problems_of,
)
from phasewise.text import format_value

CONF = Path(__file__).parents[3] / "conf"
DEFAULTS = {"task": "multitask", "data": "shapes", "optimizer": "adamw", "scheduler": "onecycle"}
DEFAULTS |= {"trainer": "default"}


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def page(*overrides: str, width: int = 110) -> str:
    words = ["hydra/sweeper=basic", *overrides]
    cfg = compose("config", words, return_hydra_config=True)
    assert isinstance(cfg, DictConfig)
    return help_text(cfg, CONF, "train.py", width)


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_comments_are_read_from_the_file_that_gave_the_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        "config.yaml",
        "defaults:\n"
        "  - _self_\n"
        "  - data: null # a data set\n"
        "  - override hydra/sweeper: basic # not a key\n"
        "\n"
        "seed: 0   # of everything\n"
        "plain: 1\n"
        "data:\n"
        '  color: "#fff # no comment" # a colour: hex\n'
        "  sizes: [1, 2] # a # in it\n"
        "  root: ??? # folder\n"
        "  deep: # a section\n"
        "    empty: # nothing given\n"
        "    last: {a: 1} # a mapping\n",
    )
    write(
        tmp_path, "data/one.yaml", "# About one\nroot: x\ncolor: red # one's own\nextra: 1 # new\n"
    )
    write(tmp_path, "task/t.yaml", "# @package _global_\nseed: 3\ndata:\n  extra: 2 # task's own\n")
    assert key_comments(tmp_path, {"task": "t", "data": "one"}) == {
        "data": "a data set",
        "seed": "of everything",
        "data.color": "one's own",
        "data.sizes": "a # in it",
        "data.root": "folder",
        "data.deep": "a section",
        "data.deep.empty": "nothing given",
        "data.deep.last": "a mapping",
        "data.extra": "task's own",
    }


def typed_keys(annotation: Any, prefix: str = "") -> Iterator[str]:
    """Keys of a schema that may have more than one value, through every union."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        parts = get_args(annotation)
        for part in parts[:1] if get_origin(annotation) is Annotated else parts:
            yield from typed_keys(part, prefix)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from typed_keys(field.annotation, f"{prefix}.{field.alias or name}".strip("."))
    elif not (get_origin(annotation) is Literal and len(get_args(annotation)) == 1):
        yield prefix


@pytest.mark.parametrize("task", sorted(config_groups(CONF)["task"]))
def test_every_key_that_is_typed_has_a_comment(task: str) -> None:
    commented: set[str] = set()
    for group, options in config_groups(CONF).items():
        for choice in options:
            commented |= key_comments(CONF, DEFAULTS | {group: choice, "task": task}).keys()
    keys = set(typed_keys(get_class(compose("config", [f"task={task}"]).task.schema)))
    assert len(keys) > 50
    # a reader stands in a user's own file
    assert {key for key in keys - commented if not key.endswith("_target_")} == {"data.reader"}


def test_every_choice_of_a_group_is_explained() -> None:
    groups = config_groups(CONF)
    first = ["task", "data", "optimizer", "scheduler"]
    others = ["callbacks", "debug", "logger", "preset", "study", "trainer"]
    assert list(groups) == first + others
    assert list(groups["optimizer"]) == ["adam", "adamw", "amsgrad", "rmsprop", "sgd"]
    assert all(about for options in groups.values() for about in options.values())


def test_the_page_shows_every_typed_key_of_the_choice_with_its_default() -> None:
    text = page("optimizer=sgd", "data=voc", "model.activation=gelu")
    rows = {line.split()[0]: line for line in text.splitlines() if "=" in line}
    assert "0 <= momentum < 1" in rows["optimizer.momentum=0.9"]
    assert "(must be given)" in page("data=voc", width=200)
    assert "model.activation=gelu" in rows  # an override on the line is the default shown
    assert "data (now voc)" in text
    assert "data.train_images" not in text
    for hidden in ("optimizer._target_", "scheduler.name"):
        assert hidden not in text


def test_comments_are_wrapped_to_the_width() -> None:
    lines = page(width=90).splitlines()
    assert [line for line in lines if len(line) > 90 and "${" not in line] == []
    assert max(map(len, page(width=110).splitlines())) > 90


def test_the_examples_stand_in_the_root_of_the_tree(tmp_path: Path) -> None:
    assert len(examples(CONF)) == 8
    (tmp_path / "config.yaml").write_text("# nothing\nseed: 0 # of train.py\n")
    assert examples(tmp_path) == []


@pytest.mark.parametrize("words", [words for words, _ in examples(CONF)])
def test_the_examples_are_accepted(words: str) -> None:
    overrides = [word for word in words.split() if "=" in word]
    line = CommandLine(overrides, CONF, "config")
    _, sweep = line.compose(multirun="-m" in words)
    assert sweep == ("-m" in words or words.startswith("study="))


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("model.actvation", "model.activation"),
        ("activation", "model.activation"),
        ("model/activation", "model.activation"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("epochs", "trainer.max_epochs"),
        ("lr", "optimizer.lr"),
        ("optim.lr", "optimizer.lr"),
        ("batch_size", "data.batch_size"),
        ("sed", "seed"),
        ("zzz", None),
        ("model.zzz", None),
    ],
)
def test_nearest_key(key: str, near: str | None) -> None:
    assert nearest_key(key, key_comments(CONF, DEFAULTS)) == near


def test_numbers_are_allowed_values_as_well() -> None:
    class Model(BaseModel):
        stride: Literal[8, 16, None]

    with pytest.raises(ValidationError) as wrong:
        Model.model_validate({"stride": 4})
    (problem,) = problems_of(wrong.value, {"stride": 4})
    assert str(problem) == "stride=4: not one of 8, 16, null"


def test_a_key_without_a_near_one_is_answered_with_its_section() -> None:
    problem = no_such_key("loss.zzz", ["loss.boxes", "loss.balance", "model.norm"])
    assert str(problem) == "loss.zzz: no such key; loss has boxes, balance"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (0.0001, "0.0001"),
        (["flip", {"rotate": {"degrees": 5}}], "[flip,{rotate:{degrees:5}}]"),
        ("true", "'true'"),
        ("1e-3", "'1e-3'"),
        ("", "''"),
        ("resnet18", "resnet18"),
    ],
)
def test_values_are_shown_as_typed(value: Any, shown: str) -> None:
    assert format_value(value) == shown
