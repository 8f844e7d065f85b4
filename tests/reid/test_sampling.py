from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
import torch

from phasewise.data.sampling import BatchSchedule, IndexLoader
from phasewise.errors import UserError
from reid.sampling import IdentitySchedule

SIZES = {
    "as many as K": [4] * 12,
    "multiples of K": [8, 4, 12, 4, 8, 4, 4, 8],
    "fewer than K": [1, 2, 3, 1, 2, 3, 2, 2, 1],
    "all kinds": [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 30],
    "just P": [3, 4, 5],
    "one is most": [2, 3, 2, 4, 200],
    "many": list(range(1, 60)),
}


def labelled(sizes: list[int]) -> torch.Tensor:
    """Labels in a mixed order, with gaps between the numbers."""
    labels = torch.tensor([7 * number for number, size in enumerate(sizes) for _ in range(size)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))]


def ranks(
    labels: torch.Tensor, p: int = 3, k: int = 4, world_size: int = 1, *, epoch: int = 0
) -> list[IdentitySchedule]:
    made = [
        IdentitySchedule(labels, p, k, seed=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for schedule in made:
        schedule.set_epoch(epoch)
    return made


def rows(schedule: BatchSchedule) -> list[list[int]]:
    return [batch.index.tolist() for batch in schedule]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_every_batch_has_p_identities_with_k_images(sizes: list[int], world_size: int) -> None:
    labels, p, k = labelled(sizes), 3, 4
    for epoch in range(4):
        for schedule in ranks(labels, p, k, world_size, epoch=epoch):
            batches = rows(schedule)
            assert len(schedule) == len(batches) >= 1
            for batch in batches:
                assert len(batch) == p * k
                slots = [batch[start : start + k] for start in range(0, p * k, k)]
                owners = [{int(labels[row]) for row in slot} for slot in slots]
                assert all(len(owner) == 1 for owner in owners)
                assert len(set.union(*owners)) == p
                for slot, owner in zip(slots, owners, strict=True):
                    there = int((labels == next(iter(owner))).sum())
                    counts = Counter(slot).values()
                    assert len(counts) == min(there, k)
                    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_ranks_share_the_epoch_in_equal_parts(sizes: list[int], world_size: int) -> None:
    labels = labelled(sizes)
    whole = rows(ranks(labels)[0])
    shards = [rows(schedule) for schedule in ranks(labels, world_size=world_size)]
    assert len({len(shard) for shard in shards}) == 1
    together = [tuple(batch) for batch in chain.from_iterable(shards)]
    assert set(together) <= {tuple(batch) for batch in whole}
    if len(whole) >= world_size:
        assert len(together) == len(whole) // world_size * world_size
        assert max(Counter(together).values()) <= max(Counter(map(tuple, whole)).values())
    else:
        assert len(shards[0]) == 1


@pytest.mark.parametrize("sizes", [SIZES["as many as K"], SIZES["multiples of K"]])
def test_an_epoch_sees_every_image_once(sizes: list[int]) -> None:
    labels = labelled(sizes)
    for epoch in range(5):
        (schedule,) = ranks(labels, p=2, epoch=epoch)
        seen = Counter(chain.from_iterable(rows(schedule)))
        slots = len(labels) // 4
        assert len(schedule) == slots // 2
        assert set(seen.values()) == {1}
        assert len(labels) - len(seen) == 4 * (slots % 2)  # a slot that fills no batch


def test_an_epoch_sees_every_image_about_once() -> None:
    """With slots for all: n images are seen as often as n / K, rounded, slots hold."""
    sizes = [4, 5, 6, 7, 8, 9, 10, 11, 13, 14] * 2
    labels = labelled(sizes)
    slots = sum(int(size / 4 + 0.5) for size in sizes)
    epochs, seen = 40, Counter[int]()
    for epoch in range(epochs):
        (schedule,) = ranks(labels, epoch=epoch)
        assert len(schedule) == slots // 3
        once = Counter(chain.from_iterable(rows(schedule)))
        assert max(once.values()) <= 2
        for number, size in enumerate(sizes):
            own = [once[row] for row in torch.nonzero(labels == 7 * number).flatten().tolist()]
            # No image comes again before all have come, but for a slot that was left out.
            assert max(own) < 2 or sum(count > 0 for count in own) >= size - 4
        seen += once
    share = torch.tensor([seen[row] / epochs for row in range(len(labels))])
    assert share.min() > 0.6
    assert share.max() < 1.5
    assert abs(float(share.mean()) - 1) < 0.05


def test_nothing_is_left_out_for_good() -> None:
    labels = labelled(SIZES["all kinds"])
    seen = set()
    for epoch in range(60):
        seen |= set(chain.from_iterable(rows(ranks(labels, p=5, epoch=epoch)[0])))
    assert seen == set(range(len(labels)))


def test_a_dominant_identity_is_capped_and_the_others_fill_in() -> None:
    labels = labelled([2, 3, 2, 4, 200])
    (schedule,) = ranks(labels, p=3, k=4)
    assert len(schedule) == (1 + 1 + 1 + 1 + 50) // 3
    batches = rows(schedule)
    own = Counter(int(labels[batch[start]]) for batch in batches for start in (0, 4, 8))
    assert own.pop(28) == len(batches)  # once in every batch, no more
    assert max(own.values()) - min(own.values()) <= 2


def test_batches_are_a_function_of_seed_and_epoch_alone() -> None:
    labels = labelled(SIZES["many"])

    def order(seed: int, epoch: int) -> list[list[int]]:
        schedule = IdentitySchedule(labels, 4, 4, seed=seed)
        schedule.set_epoch(epoch)
        torch.rand(epoch + seed + 1)  # the global generator has no say
        assert rows(schedule) == rows(schedule)
        return rows(schedule)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_identities_meet_different_others() -> None:
    labels = labelled([4] * 12)
    met = set()
    for epoch in range(60):
        for batch in rows(ranks(labels, epoch=epoch)[0]):
            own = sorted({int(labels[row]) // 7 for row in batch})
            met |= {(a, b) for a in own for b in own if a < b}
    assert len(met) == 12 * 11 // 2


def test_every_batch_has_a_seed_of_its_own() -> None:
    labels, seeds = labelled([4] * 12), []
    for epoch in range(3):
        for schedule in ranks(labels, world_size=2, epoch=epoch):
            seeds += [batch.seed for batch in schedule]
    assert len(set(seeds)) == len(seeds) == 3 * 2 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_too_few_identities_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        IdentitySchedule(labelled([4] * 5), 6, 4, seed=0)
    assert "a batch needs 6 identities" in str(caught.value)
    assert "data.batch_size=24" in str(caught.value)
    assert "has only 5" in str(caught.value)
    assert len(IdentitySchedule(labelled([4] * 5), 5, 4, seed=0)) == 1


def test_the_loader_takes_it() -> None:
    schedule = IdentitySchedule(labelled([4] * 12), 3, 4, seed=0)
    loader = IndexLoader(schedule)
    found = [batch.index.tolist() for batch in loader]
    assert len(loader) == len(found) == 4
    assert found == rows(schedule)
    assert next(iter(loader)).index.dtype == torch.int64
