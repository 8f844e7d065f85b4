"""Batches of P identities with K images each."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from phasewise.data.sampling import BatchSchedule, IndexBatch
from phasewise.data.seeding import derive
from phasewise.errors import UserError


class IdentitySchedule(BatchSchedule):
    """P x K batches: a pure function of (seed, epoch), sharded over ranks.

    Each epoch the images of every identity are shuffled and dealt into slots of K. An identity
    with n images gets n / K slots, rounded, at least one; they use up its images before any comes
    again, and no slot holds an image twice unless n < K: then its images are repeated within the
    slot, each floor(K / n) or ceil(K / n) times. P slots of different identities make a batch, in
    which an identity's images lie side by side. Slots that fill no batch are left out, others each
    epoch. So every image is seen about once per epoch. The exception: an identity with more slots
    than there are batches cannot use them all, and if that leaves places free, other identities
    get more slots.

    All ranks get the same number of batches, no batch goes to two of them, and the epoch's length
    never changes.

    Args:
        labels: identity of each row of the store, int64 (N,).
        identities: P, per batch and rank.
        images: K, per identity.
        seed: of the batches and of the augmentation.
        rank, world_size: the place of this process among the devices.

    Raises:
        UserError: fewer than P identities in ``labels``.
    """

    def __init__(
        self,
        labels: Tensor,
        identities: int,
        images: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(
            len(labels),
            identities * images,
            shuffle=True,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        self.identities = identities
        self.images = images
        order = torch.argsort(labels.cpu(), stable=True)
        counts = torch.unique(labels.cpu(), return_counts=True)[1]
        self._members = order.split(counts.tolist())
        if len(counts) < identities:
            raise UserError(
                f"a batch needs {identities} identities (data.batch_size={self.batch_size} / "
                f"data.images_per_identity={images}), and train has only {len(counts)}; choose "
                "a smaller data.batch_size, a larger data.images_per_identity, or "
                "data.sampler=random"
            )
        wanted = ((2 * counts + images) // (2 * images)).clamp(min=1)
        self._batches = max(int(wanted.sum()) // identities, 1)
        self._slots = _fitted(wanted, self._batches, identities * self._batches)

    def __len__(self) -> int:
        return max(self._batches // self.world_size, 1)

    def __iter__(self) -> Iterator[IndexBatch]:
        generator = torch.Generator().manual_seed(derive(self.seed, "identities", self.epoch))
        batches = self._deal(generator)
        if len(batches) < self.world_size:  # every rank needs a batch to take part in a step
            batches = batches.repeat(self.world_size, 1)
        mine = batches[self.rank :: self.world_size][: len(self)]
        for step, index in enumerate(mine):
            yield IndexBatch(index, derive(self.seed, self.epoch, step, self.rank))

    def _deal(self, generator: torch.Generator) -> Tensor:
        """All batches of an epoch for all ranks, (batches, P * K)."""

        def shuffled(count: int) -> Tensor:
            return torch.randperm(count, generator=generator)

        slots: list[Tensor] = []
        for identity in shuffled(len(self._members)).tolist():
            members, count = self._members[identity], int(self._slots[identity])
            order = members[shuffled(len(members))]
            # Around in a circle: K places in a row are distinct where there are K images.
            places = torch.arange(count * self.images) % len(order)
            slots += order[places].split(self.images)
        # Some are left out. Of the rest, dealt in a circle like cards, the slots of one identity
        # go to different batches, as there are never more of them than batches.
        kept = shuffled(len(slots))[: self.identities * self._batches].sort().values
        dealt = torch.stack(slots)[kept].view(self.identities, self._batches, self.images)
        return dealt.transpose(0, 1).flatten(1)[shuffled(self._batches)]


def _fitted(wanted: Tensor, most: int, total: int) -> Tensor:
    """Slots per identity: as wanted but at most ``most``, and ``total`` or more of them.

    What the upper bound takes away, the identities with the fewest slots get, as evenly as
    possible; ``most`` for each must make ``total``.
    """
    slots, least = wanted.clamp(max=most), 1
    while int(slots.sum()) < total:
        least += 1
        slots = slots.clamp(min=least)
    return slots
