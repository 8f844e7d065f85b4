"""What a loader yields here: index tensors. Decoded images already wait in a store."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from phasewise.data.seeding import derive

FORESEEN = 7
"""Batches that a loader looks ahead."""


@dataclass(frozen=True)
class IndexBatch:
    """Rows of the store, int64 ``(B,)``, and the seed of all randomness in their augmentation.

    ``following``: the batches that come next, as far as a loader has looked.
    """

    index: Tensor
    seed: int
    following: tuple[IndexBatch, ...] = ()


def limited(limit: int | float | None, batches: int) -> int:
    """How many of its batches Lightning takes under ``limit_val_batches`` and the like.

    Args:
        limit: a number of batches, a fraction of them, or None for all.
        batches: that there are.
    """
    if isinstance(limit, int):
        return min(limit, batches)
    return batches if limit is None else int(limit * batches)


class BatchSchedule:
    """Which rows form which batch: a pure function of (seed, epoch), sharded over ranks.

    Training (``shuffle``) draws a permutation each epoch, leaves out the remainder that fills no
    batch (a batch of one breaks batch norm), and gives every rank the same number of batches.
    Evaluation goes through all rows once, in order; shards may be unequal. A rank without rows gets
    one empty batch: without any, Lightning would leave it out, and the other ranks' metrics would
    wait for it forever.

    Args:
        count: rows in the store.
        batch_size: rows per batch and rank.
        shuffle: a new random order each epoch.
        seed: of the order and of the augmentation.
        rank, world_size: the place of this process among the devices.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def _rows(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.count)[self.rank :: self.world_size]
        generator = torch.Generator().manual_seed(derive(self.seed, "order", self.epoch))
        order = torch.randperm(self.count, generator=generator)
        if self.count < self.world_size:  # every rank needs a row to take part in a step
            order = order.repeat(self.world_size)
        each = max(self.count // self.world_size, 1)
        return order[self.rank :: self.world_size][:each]

    def __len__(self) -> int:
        if not self.shuffle:
            rows = len(range(self.rank, self.count, self.world_size))
            return max(math.ceil(rows / self.batch_size), 1)
        each = max(self.count // self.world_size, 1)
        return max(each // self.batch_size, 1)

    def __iter__(self) -> Iterator[IndexBatch]:
        batches = self._rows().split(self.batch_size)
        for step, index in zip(range(len(self)), batches, strict=False):
            yield IndexBatch(index, derive(self.seed, self.epoch, step, self.rank))


def evaluated_rows(
    count: int, batch_size: int, limit: int | float | None, world_size: int = 1
) -> Tensor:
    """Which rows all devices together evaluate, each under the same limit.

    Args:
        count: rows of the split, dealt out as `BatchSchedule` does.
        batch_size: rows per batch and device.
        limit: see `limited`.
        world_size: number of devices.

    Returns:
        int64 (n,), ascending.
    """
    shares = [torch.arange(count)[rank::world_size] for rank in range(world_size)]
    seen = [own[: batch_size * limited(limit, math.ceil(len(own) / batch_size))] for own in shares]
    return torch.cat(seen).sort().values


class InParts:
    """Batches in equal parts, one after the other, where a whole one needs too much memory.

    Args:
        whole: the batches, in an order that does not depend on the parts.
        parts: of a full batch; fewer where there are not as many rows.
    """

    def __init__(self, whole: BatchSchedule, parts: int) -> None:
        self.whole = whole
        self.count = whole.count
        rows = min(whole.batch_size, max(whole.count // whole.world_size, 1))
        self.parts = math.ceil(rows * parts / whole.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.whole.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.whole) * self.parts

    def __iter__(self) -> Iterator[IndexBatch]:
        for batch in self.whole:
            for part, index in enumerate(batch.index.tensor_split(self.parts)):
                yield IndexBatch(index, derive(batch.seed, part))


class IndexLoader:
    """What Lightning takes for a DataLoader: batches of indices that know which ones follow.

    Args:
        sampler: the batches; Lightning sets the epoch of what is called so.
    """

    batch_sampler = None  # where there is a sampler, Lightning asks for this too

    def __init__(self, sampler: BatchSchedule | InParts) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[IndexBatch]:
        rest = iter(self.sampler)
        known = deque(islice(rest, 1 + FORESEEN))
        while known:
            batch = known.popleft()
            yield replace(batch, following=tuple(known))
            known.extend(islice(rest, 1))
