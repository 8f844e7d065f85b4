"""From paths to networks: of every task, from strangers, from other versions."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from phasewise.config.fingerprint import plain_config
from phasewise.errors import UserError
from phasewise.inference.prediction.predictor import predictor_of
from phasewise.inference.restore import find_checkpoint, restore
from phasewise.study.winner import winning_run
from phasewise.training.build import build_module
from phasewise.training.checkpoints import read_checkpoint
from tests.conftest import TINY_RUNS

Make = Callable[..., DictConfig]
Run = Callable[[str], Path]


@pytest.mark.parametrize("task", TINY_RUNS)
def test_the_network_is_the_one_that_was_trained(task: str, tiny_run: Run) -> None:
    run = tiny_run(task)
    trained = restore(run)
    content = read_checkpoint(run / "checkpoints" / "best.ckpt")
    data = instantiate(content["phasewise"]["config"]["data"], seed=0)
    # as a training makes it, with its data
    reference = build_module(content["phasewise"]["config"], data.describe())
    reference.load_state_dict(content["state_dict"])
    reference.eval()
    images = torch.rand(2, 3, trained.image_size, trained.image_size)
    expected, found = reference(images), trained.module(images)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert not trained.module.training
    assert not any(value.requires_grad for value in found.values())
    assert (trained.task, trained.image_size, trained.resize) == (task, 32, "stretch")
    assert trained.class_names == data.splits.class_names
    assert trained.run == run
    assert trained.record is not None and trained.record.status == "completed"


def test_a_file_elsewhere_has_no_run(tiny_run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a b,c=1.ckpt"
    file.write_bytes((tiny_run("localization") / "checkpoints" / "best.ckpt").read_bytes())
    trained = restore(file)
    assert trained.checkpoint == file
    assert trained.run is None and trained.record is None


def test_a_run_without_a_best_epoch_has_its_last(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.write_bytes(b"")
    assert find_checkpoint(tmp_path) == last
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(b"")
    assert find_checkpoint(tmp_path).name == "best.ckpt"


def test_a_study_has_the_run_that_came_out_of_it(tiny_run: Run, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    trained = restore(tmp_path / "study", run_of=lambda path: tiny_run("localization"))
    assert trained.run == tiny_run("localization")
    with pytest.raises(UserError, match=r"study is empty; a run's has checkpoints/best\.ckpt"):
        restore(tmp_path / "study", run_of=lambda path: None)


def layers(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules()]


@pytest.mark.parametrize("task", ["multitask", "reid"])
def test_pretrained_weights_that_are_gone(task: str, make_config: Make, tmp_path: Path) -> None:
    """A backbone from pretrained weights keeps its norms under `norm=group`; the file is gone."""
    file = tmp_path / "weights.pth"
    own = ("model.norm=group", "model.backbone=test_resnet")
    words = [word for word in TINY_RUNS[task] if not word.startswith("model.")]
    cfg = plain_config(make_config(f"task={task}", *words, *own))
    data = instantiate(cfg["data"], seed=0)
    plain = copy.deepcopy(cfg)
    plain["model"]["norm"] = "batch"
    info = data.describe()
    backbone: Any = build_module(plain, info).network.backbone
    torch.save(backbone.state_dict(), file)
    cfg["model"]["pretrained"] = str(file)
    module = build_module(cfg, info).eval()
    assert layers(module) != layers(
        build_module(cfg | {"model": cfg["model"] | {"pretrained": False}}, info)
    )
    path = tmp_path / "a.ckpt"
    content = {"phasewise": {"config": cfg, "info": info}}
    torch.save(content | {"state_dict": module.state_dict()}, path)
    file.unlink()
    images = torch.rand(2, 3, 32, 32)
    expected, found = module(images), restore(path).module(images)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert restore(path).config["model"]["pretrained"] == str(file)


def variant(run: Path, path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = read_checkpoint(run)
    change(content)
    torch.save(content, path)
    return path


def config_of(content: dict[str, Any]) -> dict[str, Any]:
    return content["phasewise"]["config"]


def test_a_config_that_is_older_than_some_keys(tiny_run: Run, tmp_path: Path) -> None:
    def older(content: dict[str, Any]) -> None:
        config = config_of(content)
        del config["trainer"]["auto_accumulate"]
        del config["data"]["refit"]
        del config["model"]["dropout_rate"]
        config["trainer"]["of_another_version"] = 1

    trained = restore(variant(tiny_run("localization"), tmp_path / "a.ckpt", older))
    assert trained.config["data"]["refit"] is False
    assert trained.config["model"]["dropout_rate"] == 0.1  # of conf/task/localization.yaml
    assert trained.config["model"]["backbone"] == "test_resnet"


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "module": (
        lambda c: config_of(c)["task"]["module"].update(_target_="os.system"),
        r"names code from outside of this project \(task\.module=os\.system\), .*: trust=\[os\]$",
    ),
    "schema": (
        lambda c: config_of(c)["task"].update(schema="os.system"),
        r"names code from outside of this project \(task\.schema=os\.system\)",
    ),
    "task": (
        lambda c: config_of(c)["task"].update(name="poetry", schema="poetry.schema.PoetryConfig"),
        r"\(task\.schema=poetry\.schema\.PoetryConfig\), which .*: trust=\[poetry\]",
    ),
    "no config": (lambda c: c.update(phasewise={"info": {}}), r"is no checkpoint of phasewise"),
    "no weights": (lambda c: c.pop("state_dict"), r"is no checkpoint of phasewise"),
    "key": (lambda c: config_of(c)["model"].update(foo=1), r"model\.foo: no such key"),
    "value": (
        lambda c: config_of(c)["model"].update(backbone="hf-hub:someone/something"),
        r"model\.backbone=hf-hub:someone/something: neither an SMP encoder nor",
    ),
    "text": (lambda c: c["state_dict"].update(x="y"), r"is no checkpoint of phasewise"),
    "diverged": (
        lambda c: next(iter(c["state_dict"].values())).fill_(torch.nan),
        r"weights are not finite numbers: the training has diverged",
    ),
    "weights": (lambda c: c["state_dict"].popitem(), r"do not go together \(RuntimeError: .*key"),
    "info": (lambda c: c["phasewise"]["info"].clear(), r"is no checkpoint of phasewise"),
    "size": (lambda c: c["phasewise"]["info"].update(image_size="x"), r"do not go together"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_of_another_version_or_a_stranger(
    change: str, tiny_run: Run, tmp_path: Path
) -> None:
    act, told = CHANGES[change]
    path = variant(tiny_run("localization"), tmp_path / "a.ckpt", act)
    with pytest.raises(UserError, match=told) as error:
        restore(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value).splitlines()) == 1


class Code:
    """Runs when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_no_code_runs(tiny_run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    act = lambda content: content.update(more=Code(f"touch {trace}"))  # noqa: E731
    path = variant(tiny_run("localization"), tmp_path / "a.ckpt", act)
    with pytest.raises(UserError, match="more than weights and settings, which could run code"):
        restore(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it would have run
    assert trace.exists()


def test_what_is_no_checkpoint(tiny_run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("x")
    (tmp_path / "text.ckpt").write_text("hello\n" * 100)
    (tmp_path / "zero.ckpt").write_bytes(b"")
    whole = (tiny_run("localization") / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    told = {
        "empty": "is empty; a run's has checkpoints/best.ckpt, a study's study.json",
        "folder": "holds no checkpoint; a run's has",
        "missing": "no such file or directory",
        "text.ckpt": "cannot be read (not a file that torch.save writes",
        "zero.ckpt": "cannot be read (not a file that torch.save writes",
        "cut.ckpt": "cannot be read (not a file that torch.save writes, or not the whole of it)",
        "other.ckpt": "is no checkpoint of phasewise",
    }
    for name, text in told.items():
        with pytest.raises(UserError) as error:
            restore(tmp_path / name, run_of=winning_run)
        assert text in str(error.value)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_another_task_than_asked(tiny_run: Run) -> None:
    with pytest.raises(UserError, match="is of task=localization, not of task=reid"):
        restore(tiny_run("localization"), task="reid")


@pytest.mark.parametrize("key", ["schema", "module", "predictor"])
def test_code_that_a_checkpoint_names_is_not_even_imported(
    key: str, tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    name = "stranger.Any"

    def change(content: dict[str, Any]) -> None:
        config_of(content)["task"][key] = {"_target_": name} if key == "module" else name

    file = variant(tiny_run("localization"), tmp_path / "a.ckpt", change)
    with pytest.raises(
        UserError, match=rf"task\.{key}=stranger\.Any\), which a checkpoint alone does not"
    ):
        predictor_of(restore(file))
    assert "stranger" not in sys.modules
