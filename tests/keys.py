"""Shows that a key bites: one pass forward and backward that differs, or two tiny runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from phasewise.config.fingerprint import plain_config
from phasewise.config.schema import NOT_OF_A_RUN
from phasewise.data.datamodule import StoreDataModule
from phasewise.data.seeding import derive, seed_torch
from phasewise.records.history import Row, read_history
from phasewise.training.build import build_data, build_module
from phasewise.training.callbacks import BackgroundSaving
from phasewise.training.module import TaskModule
from phasewise.training.run import train
from phasewise.training.session import Session

CPU = torch.device("cpu")

CHOSEN = {
    "task.name",
    "task.schema",
    "task.module._target_",
    "task.predictor",
    "task.worth_trying",
    "data._target_",
    "optimizer._target_",
    "optimizer.amsgrad",
    "scheduler.name",
}
"""Keys that come with the choice of a file and are not typed."""


def built(cfg: DictConfig) -> tuple[TaskModule, StoreDataModule]:
    """The module and the data of a config, as a run builds them."""
    config = plain_config(cfg)
    L.seed_everything(cfg.seed, verbose=False)
    data = build_data(config)
    assert isinstance(data, StoreDataModule)
    data.setup()
    module = build_module(config, data.describe())
    assert isinstance(module, TaskModule)
    return module, data


def one_pass(cfg: DictConfig) -> Row:
    """Loss and gradients of the first training batch, and all metrics of the validation split.

    Nothing is stepped: what differs is computed by the data, the network, the loss or the metrics.
    """
    module, data = built(cfg)
    data.trainer = module.trainer = SimpleNamespace(  # type: ignore[assignment]
        datamodule=data,
        training=True,
        testing=False,
        predicting=False,
        current_epoch=0,
        global_rank=0,
        world_size=1,
    )
    module.setup("fit")
    rows = next(iter(data.train_dataloader()))
    batch = data.transfer_batch_to_device(rows, CPU, 0)
    module.train()
    module.on_train_epoch_start()
    seed_torch(derive(cfg.seed, "step", 0, 0, 0), CPU)
    loss = module.training_step(batch, 0)
    module.backward(loss)
    found = {"train/loss": float(loss.detach())}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[f"gradient/{name}"] = float(parameter.grad.norm())
    module.eval()
    with torch.no_grad():
        for rows in data.val_dataloader():
            module.evaluate(data.prepared("val", rows.index, CPU))
        return found | module.epoch_metrics("val")


def whole_run(cfg: DictConfig, directory: Path) -> list[Row]:
    """Every metric of every epoch of a new run; times left out."""
    with pytest.MonkeyPatch.context() as patch:  # nobody reads its weights
        patch.setattr(BackgroundSaving, "save_checkpoint", lambda *_, **__: None)
        patch.setattr(Session, "_restore_best", lambda _: None)
        train(cfg, directory)
    return [{k: v for k, v in row.items() if "/" in k} for row in read_history(directory)]


class Outcome:
    """What tiny configs compute, each kept for the next test that asks for it.

    Args:
        tiny: overrides of all of them.
    """

    def __init__(
        self,
        make_config: Callable[..., DictConfig],
        folders: pytest.TempPathFactory,
        tiny: Sequence[str],
    ) -> None:
        self.make_config, self.folders, self.tiny = make_config, folders, tiny
        self._known: dict[tuple[str, bool], list[Row]] = {}

    def again(self, overrides: str, *, run: bool) -> list[Row]:
        """Of one pass, or of a whole run."""
        # the test split is not looked at: its figures are no part of the history
        cfg = self.make_config("test=false", *self.tiny, *overrides.split())
        return whole_run(cfg, self.folders.mktemp("run")) if run else [one_pass(cfg)]

    def __call__(self, overrides: str, *, run: bool) -> list[Row]:
        if (overrides, run) not in self._known:
            self._known[overrides, run] = self.again(overrides, run=run)
        return self._known[overrides, run]

    def differs(self, change: str, *, run: bool = False) -> bool:
        """Whether overrides change what is computed; those after ``|`` go to both.

        Values are compared by their bits; NaN equals NaN.
        """
        changed, _, common = change.partition("|")
        one, other = (self(words, run=run) for words in (f"{common} {changed}".strip(), common))
        return not same(one, other)

    def repeats(self) -> bool:
        """Whether the same config computes the same again, in one pass and in a whole run."""
        return all(same(self.again("", run=run), self("", run=run)) for run in (False, True))


def same(one: list[Row], other: list[Row]) -> bool:
    """Whether all numbers are equal, an undefined one to an undefined one."""
    return [list(map(repr, sorted(row.items()))) for row in one] == [
        list(map(repr, sorted(row.items()))) for row in other
    ]


def tried(changes: Iterable[str]) -> set[str]:
    """The keys that a list of changes is about."""
    words = (word for change in changes for word in change.replace("|", " ").split())
    return {word.split("=")[0] for word in words}


def all_keys(cfg: DictConfig) -> set[str]:
    """The dotted keys of what a config says of a run."""

    def walk(node: object, prefix: str) -> set[str]:
        if isinstance(node, dict):
            return {k for key, value in node.items() for k in walk(value, f"{prefix}.{key}")}
        return {prefix.lstrip(".")}

    content = OmegaConf.to_container(cfg)
    assert isinstance(content, dict)
    return walk({key: node for key, node in content.items() if key not in NOT_OF_A_RUN}, "")
