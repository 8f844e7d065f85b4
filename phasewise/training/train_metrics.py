"""The metrics of validation, measured on training images as well: how much a network overfits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import torch
from hydra.utils import get_class
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from phasewise.config.signatures import TARGET
from phasewise.data.batch import Batch
from phasewise.data.datamodule import StoreDataModule
from phasewise.errors import UserError
from phasewise.training.evaluating import evaluating
from phasewise.training.module import TaskModule


class TrainMetrics(Callback):
    """Logs ``train/METRIC`` beside each ``val/METRIC``.

    After each validation, as many training images as it had are evaluated in the same way: the
    weights of the epoch's end, no dropout, no augmentation, the batch norm's running statistics.
    They are the same ones each time, evenly spread over the split (see `TaskModule.training_rows`),
    so that the curve beside that of validation tells overfitting and nothing else. It costs about
    one more validation, and changes nothing of the training.
    """

    def __init__(self) -> None:
        self._validated = False

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Nothing is known of this epoch."""
        self._validated = False

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """There is something to compare with."""
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Evaluate, and log."""
        if not self._validated:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(module, TaskModule)
        assert isinstance(data, StoreDataModule)
        rows = module.training_rows(data, self._count(trainer, data))
        with module.as_validated(), evaluating(trainer, module):
            scores = module.training_metrics(_evaluated(trainer, module, data, rows))
        module.log_dict({f"train/{name}": torch.tensor(value) for name, value in scores.items()})

    @staticmethod
    def _count(trainer: L.Trainer, data: StoreDataModule) -> int:
        """Of the images that validation had, on all devices."""
        batches = sum(trainer.num_val_batches)
        seen = batches * data.batch_size * trainer.world_size
        return int(min(seen, len(data.splits.stores["val"])))


def check_train_metrics(config: Mapping[str, Any]) -> None:
    """See whether module and data can do it.

    Args:
        config: of a run, as plain containers.

    Raises:
        UserError: one of them is a user's own, and not derived from ours.
    """
    parts = {"task.module": TaskModule, "data": StoreDataModule}
    for key, kind in parts.items():
        name = (config["task"]["module"] if key == "task.module" else config["data"])[TARGET]
        if not issubclass(get_class(name), kind):
            raise UserError(
                f"trainer.train_metrics=true: {key}._target_={name} is no {kind.__name__}, which "
                "alone can be evaluated on training images; it may log train/METRIC itself"
            )


def _evaluated(
    trainer: L.Trainer, module: TaskModule, data: StoreDataModule, rows: Mapping[str, Tensor]
) -> Iterator[tuple[dict[str, Tensor], Batch]]:
    """Outputs and batches of this device's share."""
    own = {name: values[trainer.global_rank :: trainer.world_size] for name, values in rows.items()}
    parts = {name: values.split(data.batch_size) for name, values in own.items()}
    for place, index in enumerate(parts["row"]):
        if not len(index):
            continue
        batch = data.prepared("train", index, module.device)
        for name in parts.keys() - {"row"}:
            batch[name] = parts[name][place].to(module.device)
        outputs, _ = module.losses(batch)
        yield outputs, batch
