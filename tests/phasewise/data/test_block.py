"""Batches are prepared in a row on the processor, and are the same batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasewise.data.block import BYTES, Block
from phasewise.data.sampling import FORESEEN, BatchSchedule, IndexBatch, IndexLoader

CPU, OTHER = torch.device("cpu"), torch.device("meta")


class Watched:
    """Prepares batches whose images take ``nbytes`` each, and notes which."""

    def __init__(self, nbytes: int) -> None:
        self.image = torch.zeros(1, dtype=torch.uint8).expand(nbytes)
        self.seeds: list[int] = []

    def __call__(self, batch: IndexBatch, device: torch.device) -> dict[str, Tensor]:
        self.seeds.append(batch.seed)
        return {"image": self.image, "index": batch.index}


def batches(count: int, epoch: int = 0) -> list[IndexBatch]:
    schedule = BatchSchedule(2 * count, 2, shuffle=True, seed=0)
    schedule.set_epoch(epoch)
    return list(IndexLoader(schedule))


@pytest.mark.parametrize(
    ("device", "nbytes", "in_a_row"),
    [
        (CPU, 1, 1 + FORESEEN),
        (CPU, BYTES // 3, 3),
        (CPU, BYTES, 1),
        (CPU, 2 * BYTES, 1),
        (OTHER, 1, 1),
    ],
)
def test_each_batch_comes_once_in_its_turn(
    device: torch.device, nbytes: int, in_a_row: int
) -> None:
    prepare, dealt = Watched(nbytes), batches(20)
    block = Block(prepare)
    for step, batch in enumerate(dealt):
        assert block.take(batch, device)["index"] is batch.index
        whole = (step // in_a_row + 1) * in_a_row
        assert prepare.seeds == [it.seed for it in dealt[:whole]]


def test_what_an_epoch_cut_short_left_is_not_handed_out() -> None:
    prepare = Watched(1)
    block = Block(prepare)
    first, second = batches(10), batches(10, epoch=1)
    for batch in [*first[:2], *second]:
        assert block.take(batch, CPU)["index"] is batch.index
    assert len(prepare.seeds) == len({*prepare.seeds}) == 1 + FORESEEN + len(second)


def test_nothing_is_kept_after_the_end() -> None:
    prepare, dealt = Watched(1), batches(3)
    block = Block(prepare)
    block.take(dealt[0], CPU)
    block.clear()
    block.take(dealt[1], CPU)
    assert prepare.seeds == [it.seed for it in [*dealt, *dealt[1:]]]
