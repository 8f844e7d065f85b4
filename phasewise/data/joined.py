"""The rows of two splits as those of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from phasewise.data.store import Store


class JoinedStore(Store):
    """The rows of one store, then those of another; nothing is copied until it is asked for.

    Args:
        first: whose fields are those of the joined store.
        second: has these fields too, of the same shapes.
    """

    def __init__(self, first: Store, second: Store) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, field: str) -> Tensor:
        return torch.cat([self._first[field], self._second[field]])

    def __contains__(self, field: object) -> bool:
        return field in self._first

    def keys(self) -> Iterator[str]:
        """See `Store.keys`."""
        return self._first.keys()

    @property
    def device(self) -> torch.device:
        """See `Store.device`."""
        return self._first.device

    @property
    def nbytes(self) -> int:
        """See `Store.nbytes`."""
        return self._first.nbytes + sum(self._second[field].nbytes for field in self.keys())

    def gather(self, index: Tensor, fields: Iterable[str] | None = None) -> dict[str, Tensor]:
        """See `Store.gather`."""
        index, names = index.to(self.device), tuple(fields or self.keys())
        here = index < len(self._first)
        parts = (
            self._first.gather(index[here], names),
            self._second.gather(index[~here] - len(self._first), names),
        )
        # The rows now lie sorted by store: back to the order in which they were asked for.
        order = torch.cat([here.nonzero(), (~here).nonzero()]).flatten().argsort()
        both = {name: torch.cat([part[name] for part in parts]) for name in names}
        return {name: rows.index_select(0, order) for name, rows in both.items()}

    def to(self, device: torch.device | str) -> Store:
        """The same rows on another device, there as one store."""
        both = (self._first, self._second)
        return Store(
            {field: torch.cat([one[field].to(device) for one in both]) for field in self.keys()}
        )
