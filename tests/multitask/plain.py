"""Samples, loaders and modules of people who use the module without the project's own data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from multitask import MultitaskModule

CLASSES = ["background", "cat", "dog"]
SIDE = 64
SMALL: dict[str, Any] = {
    "class_names": CLASSES,
    "image_size": SIDE,
    "backbone": "test_resnet",
    "head_channels": 32,
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 3e-3},
}
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def samples(count: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Noise with a square of one class in it; of each third image only half of the truth."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for i in range(count):
        image = torch.rand(3, SIDE, SIDE, generator=g) / 2
        mask = torch.zeros(SIDE, SIDE, dtype=torch.long)
        x, y = torch.randint(0, SIDE - 24, (2,), generator=g).tolist()
        label = 1 + i % 2
        image[label, y : y + 24, x : x + 24] += 0.5
        mask[y : y + 24, x : x + 24] = label
        boxes: Tensor | None = torch.tensor([[x, y, x + 24, y + 24]]).float()
        labels: Tensor | None = torch.tensor([label])
        if i % 6 == 2:
            mask[:] = 255
        if i % 6 == 5:
            boxes = labels = None
        found.append({"image": image, "mask": mask, "boxes": boxes, "labels": labels})
    return found


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """As detection loaders do it: what differs in length stays a list."""
    batch: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
    return batch | {key: torch.stack(batch[key]) for key in ("image", "mask") if key in batch}


def loader(*keys: str, rows: Sequence[dict[str, Any]] | None = None) -> DataLoader[Any]:
    """Of samples with some of their keys; none: all."""
    found = rows or samples()
    chosen = [{key: row[key] for key in keys or row} for row in found]
    return DataLoader(chosen, batch_size=5, collate_fn=collate)  # type: ignore[arg-type]


class Losses(L.Callback):
    """The training loss of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if "train/loss" in trainer.callback_metrics:
            self.seen.append(float(trainer.callback_metrics["train/loss"]))

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.seen.append(float(trainer.callback_metrics["train/loss"]))


def module(**settings: Any) -> MultitaskModule:
    torch.manual_seed(0)
    return MultitaskModule(**{**SMALL, **settings})


def trainer(**settings: Any) -> L.Trainer:
    return L.Trainer(**{**QUIET, "max_epochs": 2, **settings})


NONE = torch.zeros(0, dtype=torch.long)
WHOLE: dict[str, Any] = {
    "image": torch.rand(2, 3, SIDE, SIDE),
    "mask": torch.zeros(2, SIDE, SIDE, dtype=torch.long),
    "boxes": [torch.tensor([[1.0, 1, 9, 9]]), torch.zeros(0, 4)],
    "labels": [torch.tensor([1]), torch.zeros(0, dtype=torch.long)],
}


def boxes(*values: float) -> dict[str, Any]:
    return {
        "boxes": [torch.zeros(0, 4), torch.tensor([values])],
        "labels": [NONE, torch.tensor([1])],
    }
