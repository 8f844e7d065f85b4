"""A DataModule and a LightningModule of somebody's own, who knows nothing of this project."""

from __future__ import annotations

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Pair = tuple[Tensor, Tensor]


class Lines(L.LightningDataModule):
    """Points of a line with noise."""

    def __init__(self, count: int = 32, batch_size: int = 8, seed: int = 0) -> None:
        super().__init__()
        self.count, self.batch_size, self.seed = count, batch_size, seed

    def _loader(self, split: int) -> DataLoader[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(self.seed + split)
        x = torch.rand(self.count, 1, generator=generator)
        return DataLoader(TensorDataset(x, 2 * x + 1), batch_size=self.batch_size)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self._loader(0)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self._loader(1)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self._loader(2)


class Line(L.LightningModule):
    """A linear fit, judged by minus its squared error: a metric that is never positive."""

    def __init__(self, rate: float, width: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rate = rate
        self.network = nn.Sequential(nn.Linear(1, width), nn.Linear(width, 1))

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        loss = (self.network(batch[0]) - batch[1]).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Pair, batch_idx: int) -> None:
        self.log("val/score", -(self.network(batch[0]) - batch[1]).square().mean())

    def test_step(self, batch: Pair, batch_idx: int) -> None:
        self.log("test/score", -(self.network(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.rate)
