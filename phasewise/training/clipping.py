"""Clipping of gradients that Lightning's Trainer does not have."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer

PER_TENSOR = "tensor_norm"
"""What ``trainer.gradient_clip_algorithm`` calls it."""


class ClipEachTensor(Callback):
    """Scales each parameter's gradient whose own norm is larger than a limit down to it.

    Keras' ``clipnorm`` of an optimizer, ``tf.clip_by_norm``; ``trainer.gradient_clip_algorithm=
    norm`` is its ``global_clipnorm``. Under 16-bit precision Lightning has taken the loss's scale
    out of the gradients by then, and under DDP they are the mean over devices.

    Args:
        limit: largest norm, > 0.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """All gradients of the optimizer, in place."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        clip_each([p.grad for p in parameters if p.grad is not None], self.limit)


@torch.no_grad()
def clip_each(gradients: Sequence[Tensor], limit: float) -> None:
    """Multiply each tensor by ``min(1, limit / its norm)``, without waiting for the device.

    One that is not finite stays so: a divergence must show.
    """
    if gradients:
        norms = torch.stack(torch._foreach_norm(list(gradients)))
        torch._foreach_mul_(list(gradients), list((limit / norms).clamp(max=1).unbind()))
