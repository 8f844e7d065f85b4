from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from phasewise.data.sampling import (
    BatchSchedule,
    IndexBatch,
    IndexLoader,
    InParts,
    evaluated_rows,
)


def _rows(schedule: BatchSchedule) -> list[list[int]]:
    return [batch.index.tolist() for batch in schedule]


def _flat(batches: Iterable[list]) -> list:
    return list(chain.from_iterable(batches))


def _ranks(
    count: int, batch_size: int, world_size: int, *, shuffle: bool, epoch: int = 0
) -> list[BatchSchedule]:
    schedules = [
        BatchSchedule(count, batch_size, shuffle=shuffle, seed=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for schedule in schedules:
        schedule.set_epoch(epoch)
    return schedules


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        schedule = BatchSchedule(20, 4, shuffle=True, seed=seed)
        schedule.set_epoch(epoch)
        torch.rand(epoch + seed + 1)  # the global generator has no say
        return _rows(schedule)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(20, [2] * 8), (8, [2] * 4), (6, [2] * 3), (7, [2, 2, 2, 1]), (3, [2, 1]), (1, [1])],
)
def test_parts_are_those_of_the_whole_batches(count: int, sizes: list[int]) -> None:
    whole = BatchSchedule(count, 8, shuffle=True, seed=0)
    parts = InParts(whole, 4)
    for epoch in (0, 1):
        parts.set_epoch(epoch)
        found = list(parts)
        assert [len(batch.index) for batch in found] == sizes
        assert len(parts) == len(found) == len(whole) * parts.parts
        assert _flat([batch.index.tolist() for batch in found]) == _flat(_rows(whole))
        assert len({batch.seed for batch in found}) == len(found)
    assert len(IndexLoader(parts)) == len(parts)


def test_going_through_it_twice_gives_the_same() -> None:
    schedule = BatchSchedule(20, 4, shuffle=True, seed=0)
    assert _rows(schedule) == _rows(schedule)
    assert [b.seed for b in schedule] == [b.seed for b in schedule]


def test_an_epoch_sees_every_row_at_most_once_and_all_rows_in_time() -> None:
    schedule, seen = BatchSchedule(10, 4, shuffle=True, seed=0), set()
    for epoch in range(20):
        schedule.set_epoch(epoch)
        rows = _flat(_rows(schedule))
        assert len(set(rows)) == len(rows) == 8  # the last two fill no batch
        seen |= set(rows)
    assert seen == set(range(10))


def test_every_batch_has_a_seed_of_its_own() -> None:
    seeds = []
    for epoch in range(3):
        for schedule in _ranks(12, 2, 2, shuffle=True, epoch=epoch):
            seeds += [batch.seed for batch in schedule]
    assert len(set(seeds)) == len(seeds) == 18


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 13])
def test_evaluation_covers_all_rows_once(count: int, world_size: int) -> None:
    schedules = _ranks(count, 2, world_size, shuffle=False)
    rows = [_flat(_rows(schedule)) for schedule in schedules]
    assert sorted(_flat(rows)) == list(range(count))
    assert all(shard == sorted(shard) for shard in rows)
    assert [len(s) for s in schedules] == [len(list(s)) for s in schedules]
    # A rank without rows takes part with one empty batch; nobody else has any.
    empty = [batch for s in schedules for batch in _rows(s) if not batch]
    assert len(empty) == rows.count([]) == max(world_size - count, 0)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 12, 25])
def test_training_gives_every_rank_equal_batches(count: int, world_size: int) -> None:
    schedules = _ranks(count, 4, world_size, shuffle=True)
    shards = [_rows(schedule) for schedule in schedules]
    sizes = [[len(batch) for batch in shard] for shard in shards]
    assert all(size == sizes[0] for size in sizes)
    assert [len(s) for s in schedules] == [len(shard) for shard in shards]
    per_rank = max(count // world_size, 1)
    assert sizes[0] == ([4] * (per_rank // 4) if per_rank >= 4 else [per_rank])
    rows = _flat(_flat(shards))
    assert set(rows) <= set(range(count))
    if count >= world_size:
        assert len(set(rows)) == len(rows)  # no row on two devices


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_loader_yields_the_batches_of_the_schedule(shuffle: bool) -> None:
    schedule = BatchSchedule(10, 4, shuffle=shuffle, seed=0)
    loader = IndexLoader(schedule)
    found = list(loader)
    assert len(loader) == len(found) == (2 if shuffle else 3)
    for batch, wanted in zip(found, schedule, strict=True):
        assert isinstance(batch, IndexBatch)
        assert batch.index.dtype == torch.int64
        assert torch.equal(batch.index, wanted.index)
        assert batch.seed == wanted.seed


class _Notes(L.LightningModule):
    """Notes the rows of each epoch; ``training_step`` has nothing to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.rows: dict[int, list[list[int]]] = {}

    def transfer_batch_to_device(self, batch: IndexBatch, *_: object) -> Tensor:
        return batch.index

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        self.rows.setdefault(self.current_epoch, []).append(index.tolist())
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_lightning_moves_the_schedule_to_each_epoch() -> None:
    schedule, module = BatchSchedule(10, 4, shuffle=True, seed=0), _Notes()
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, IndexLoader(schedule))
    for epoch in range(3):
        schedule.set_epoch(epoch)
        assert module.rows[epoch] == _rows(schedule)


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("count", [1, 4, 11])
@pytest.mark.parametrize("limit", [1, 2, 100, 0.5, 1.0, None])
def test_rows_under_a_limit_are_those_of_the_batches_that_are_evaluated(
    count: int, limit: int | float | None, world_size: int
) -> None:
    taken: list[int] = []
    for schedule in _ranks(count, 2, world_size, shuffle=False):
        batches = _rows(schedule)
        most = limit if isinstance(limit, int) else int((limit or 1.0) * len(batches))
        taken += _flat(batches[:most])
    assert evaluated_rows(count, 2, limit, world_size).tolist() == sorted(taken)
