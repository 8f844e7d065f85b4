"""A network is evaluated while it is being trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
import torch


@contextmanager
def evaluating(trainer: L.Trainer, module: L.LightningModule) -> Iterator[None]:
    """As Lightning validates; afterwards each part trains that did."""
    before = {part: part.training for part in module.modules()}
    # Metrics begun under the one mode cannot go on under the other.
    inference = trainer.fit_loop.epoch_loop.val_loop.inference_mode
    module.eval()
    try:
        with (
            torch.inference_mode() if inference else torch.no_grad(),
            trainer.precision_plugin.val_step_context(),
        ):
            yield
    finally:
        for part, training in before.items():
            part.training = training
