"""What is wanted next is fetched while one works on what is wanted now."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from phasewise.data.prefetch import Prefetcher
from phasewise.data.store import Store

ROWS = torch.arange(12).view(12, 1)


class Watched(Store):
    """Notes who gathers what."""

    def __init__(self) -> None:
        super().__init__({"row": ROWS})
        self.calls: list[tuple[list[int], bool]] = []

    def gather(self, index: Tensor, fields: Iterable[str] | None = None) -> dict[str, Tensor]:
        ours = threading.current_thread() is threading.main_thread()
        self.calls.append((index.tolist(), ours))
        if 11 in index:
            raise OSError("the disk is gone")
        return super().gather(index, fields)


def test_rows_come_once_and_from_beside() -> None:
    store, ahead = Watched(), Prefetcher()
    parts = ROWS[:9, 0].split(3)
    for index, following in zip(parts, [*parts[1:], None], strict=True):
        assert ahead.gather(store, index, following)["row"].equal(index[:, None])
    ahead.close()
    assert store.calls == [([0, 1, 2], True), ([3, 4, 5], False), ([6, 7, 8], False)]


def test_what_was_not_foreseen_is_fetched_now() -> None:
    store, ahead = Watched(), Prefetcher()
    first, second, third = ROWS[:9, 0].split(3)
    ahead.gather(store, first, second)
    assert ahead.gather(store, third, None)["row"].equal(third[:, None])
    assert ahead.gather(store, second, None)["row"].equal(second[:, None])
    other = Watched()
    ahead.gather(store, first, second)
    assert ahead.gather(other, second, None)["row"].equal(second[:, None])
    assert other.calls == [([3, 4, 5], True)]
    ahead.close()


def test_an_error_comes_where_the_rows_are_wanted() -> None:
    store, ahead = Watched(), Prefetcher()
    good, bad = ROWS[:3, 0], ROWS[9:, 0]
    ahead.gather(store, good, bad)
    with pytest.raises(OSError, match="the disk is gone"):
        ahead.gather(store, bad, None)
    ahead.close()
