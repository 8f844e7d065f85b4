"""From the processor to the device without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor

_WORTH_PINNING = 2**16
"""Bytes; the driver takes smaller pieces from ordinary memory without waiting."""


def send(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``tensor`` on ``device``.

    A plain ``Tensor.to`` from the processor waits until the device has done all that it was given
    before, and leaves it without work until the next launch. Apple's GPUs read the source later
    than they say, so that it must not be given up; there the copy waits.

    Args:
        tensor: on the CPU, or on ``device`` already.
        device: where it is wanted.
        dtype: what it becomes; None: what it is.
    """
    if device.type == "cuda" and tensor.device.type == "cpu" and tensor.nbytes > _WORTH_PINNING:
        tensor = tensor.pin_memory()
    return tensor.to(device, dtype, non_blocking=device.type != "mps")
