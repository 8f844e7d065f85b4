"""Rows that have to be fetched from elsewhere, fetched while the device is at work."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from phasewise.data.store import Store


@dataclass(frozen=True)
class _Pending:
    store: Store
    index: Tensor
    rows: Future[dict[str, Tensor]]


class Prefetcher:
    """Gathers rows of stores, and those that are wanted next in a thread beside it.

    For a device that has no room for a split: while it computes, the processor has time to copy
    rows, or to read them from the disk. Where the processor itself computes, that gains nothing: a
    thread would take its cores away. At most one batch is held.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pending: _Pending | None = None

    def gather(self, store: Store, index: Tensor, following: Tensor | None) -> dict[str, Tensor]:
        """`Store.gather` of ``index``, and the beginning of that of ``following``.

        Args:
            store: as its name says.
            index: rows (B,).
            following: of the next call, the same tensor then; None: nobody knows.
        """
        pending, self._pending = self._pending, None
        if pending is not None and pending.store is store and pending.index is index:
            rows = pending.rows.result()
        else:
            rows = store.gather(index)
        if following is not None:
            self._pool = self._pool or ThreadPoolExecutor(1, "read-ahead")
            fetched = self._pool.submit(store.gather, following)
            self._pending = _Pending(store, following, fetched)
        return rows

    def close(self) -> None:
        """End the thread; the next call begins a new one."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = self._pending = None
