"""A Lightning script of nobody's, with one line for the record.

``python foreign_script.py PACKAGE DIRECTORY EPOCHS [STOP]``: the package is ``lightning.pytorch``
or ``pytorch_lightning``; STOP kills the process in that epoch; where a checkpoint is there, the fit
goes on from it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

package = import_module(sys.argv[1])
callbacks = import_module(f"{sys.argv[1]}.callbacks")
from phasewise.lightning import RecordCallback  # noqa: E402


class Line(package.LightningModule):  # type: ignore[name-defined, misc]
    """Fits a line; metrics in the old style of names, one at the end of an epoch."""

    def __init__(self, lr: float = 0.1, loss: str = "mse_loss") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(2, 1)
        self.frozen = torch.nn.Parameter(torch.zeros(4), requires_grad=False)

    def _loss(self, batch: Any) -> Any:
        x, y = batch
        return getattr(torch.nn.functional, self.hparams.loss)(self.net(x), y)

    def training_step(self, batch: Any, index: int) -> Any:
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("train_norm", self.net.weight.norm())

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", self._loss(batch))
        self.log("val/score", -self._loss(batch))
        wanted = len(sys.argv) > 4 and self.current_epoch + 1 == int(sys.argv[4])
        if wanted and not self.trainer.sanity_checking:
            os.kill(os.getpid(), 9)

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test/score", -self._loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


def main() -> None:
    package.seed_everything(1)
    x = torch.randn(16, 2)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 4)
    directory = Path(sys.argv[2])
    trainer = package.Trainer(
        max_epochs=int(sys.argv[3]),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        check_val_every_n_epoch=2,
        callbacks=[
            RecordCallback("val/score", directory=directory),
            callbacks.ModelCheckpoint(directory / "weights", save_last=True),
        ],
    )
    module = Line()
    last = directory / "weights" / "last.ckpt"
    trainer.fit(module, loader, loader, ckpt_path=last if last.is_file() else None)
    trainer.validate(module, loader, verbose=False)
    trainer.test(module, loader, verbose=False)


if __name__ == "__main__":
    main()
