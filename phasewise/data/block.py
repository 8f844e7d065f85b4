"""Batches that are prepared a few at a time, where the processor also trains."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phasewise.data.sampling import IndexBatch

BYTES = 16 * 2**20
"""Of the images that wait."""


class Block:
    """Prepares a batch and those that follow it, and hands them out as they are asked for.

    On the processor a network's step leaves nothing else in the caches, neither data nor code: the
    small operations of gathering and augmenting then take more than twice as long as right after
    each other (benchmarks/README.md). A GPU's processor is free for them at every step.

    Args:
        prepare: what is done to each batch, for a device.
    """

    def __init__(self, prepare: Callable[[IndexBatch, torch.device], dict[str, Tensor]]) -> None:
        self._prepare = prepare
        self._ready: dict[int, dict[str, Tensor]] = {}

    def take(self, batch: IndexBatch, device: torch.device) -> dict[str, Tensor]:
        """``prepare(batch, device)``; known by its seed, which no other batch of a run has."""
        if batch.seed not in self._ready:
            first = self._prepare(batch, device)
            room = BYTES // first["image"].nbytes - 1 if device.type == "cpu" else 0
            rest = {it.seed: self._prepare(it, device) for it in batch.following[: max(room, 0)]}
            self._ready = {batch.seed: first, **rest}
        return self._ready.pop(batch.seed)

    def clear(self) -> None:
        """Forget what was not asked for."""
        self._ready = {}
