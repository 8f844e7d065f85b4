"""Gradients that are clipped tensor by tensor, as Keras' ``clipnorm`` does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from phasewise.training.clipping import ClipEachTensor, clip_each

LIMIT = 0.5


def test_by_hand() -> None:
    gradients = [torch.tensor([3.0, 4.0]), torch.tensor([[0.3], [-0.4]]), torch.zeros(3)]
    clip_each(gradients, 1.0)
    for found, wanted in zip(gradients, ([0.6, 0.8], [[0.3], [-0.4]], [0.0] * 3), strict=True):
        torch.testing.assert_close(found, torch.tensor(wanted))
    clip_each([], 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_divergence_still_shows(bad: float) -> None:
    gradients = [torch.tensor([bad, 1.0]), torch.tensor([2.0])]
    clip_each(gradients, 1.0)
    assert not gradients[0].isfinite().all()
    assert gradients[1] == 1


class Two(L.LightningModule):
    """Two weights of very different gradients, 100 x and x, for rows x."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = (nn.Parameter(torch.zeros(2)) for _ in range(2))
        self.unused = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (100 * (batch @ self.large) + batch @ self.small).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1.0)


def _fitted(rows: Tensor, folder: Path, **settings: Any) -> Two:
    module = Two()
    L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ClipEachTensor(LIMIT)],
        default_root_dir=folder,
        **settings,
    ).fit(module, DataLoader(rows, batch_size=1))
    return module


def _clipped(gradient: np.ndarray) -> np.ndarray:
    """tf.clip_by_norm."""
    return gradient * LIMIT / max(np.linalg.norm(gradient), LIMIT)


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "scaled"])
def test_steps_of_a_training(precision: str, batches: int, tmp_path: Path) -> None:
    """Once per step, after accumulation, with the scale of 16-bit losses taken out."""
    rows = torch.tensor([[0.125, 0.25], [0.25, -0.125]])
    how: dict[str, Any] = {"precision": precision}
    if precision == "scaled":  # a plugin for float16, with its scale, on a processor
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        how = {"plugins": [MixedPrecision("bf16-mixed", "cpu")]}
        how["plugins"][0].scaler = scaler
    module = _fitted(rows, tmp_path, accumulate_grad_batches=batches, **how)
    steps = rows.numpy().reshape(-1, batches, 2).mean(1)
    for parameter, factor in ((module.large, 100), (module.small, 1)):
        wanted = -sum(_clipped(factor * step) for step in steps)
        np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=1e-2)
    assert module.unused.item() == 0
    assert module.large.norm() <= LIMIT * len(steps) * 1.01
