"""What a user of the project has in a package of their own: parts that a config names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger


class Counter(L.Callback):
    """Counts the epochs, across interruptions."""

    def __init__(self, step: int, title: str = "epochs") -> None:
        self.step, self.title, self.count = step, title, 0

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.count += self.step

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        Path(trainer.default_root_dir, f"{self.title}.txt").write_text(str(self.count))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


class Opaque(Counter):
    """Has a state that no checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        return {"count": self}


class Lines(Logger):
    """Writes the names of what is logged."""

    def __init__(self, save_dir: str, file: str = "lines.txt") -> None:
        super().__init__()
        self.path = Path(save_dir, file)

    @property
    def name(self) -> str:
        return "lines"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        self._add("hyperparameters")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._add(" ".join(metrics))

    def _add(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")


class Plain(torch.optim.SGD):
    """An optimizer without weight decay."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
