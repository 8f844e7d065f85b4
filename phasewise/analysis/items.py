"""Scores of single items of a split, and how the metrics of the whole follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
MetricsOf = Callable[[Floats], Mapping[str, Floats]]
"""Weights (R, N), how often each item counts, one row per resample, to the metrics (R,) by name;
NaN where they are undefined. With ones they are those of the split's metrics."""


@dataclass(frozen=True)
class Items:
    """The items of a split.

    Attributes:
        unit: what an item is, in the plural: ``images``, ``queries``.
        rows: (N,), the row of each in the split.
        scores: (N,) by name, NaN where an item has none.
        metrics: those of any multiset of items.
    """

    unit: str
    rows: npt.NDArray[np.integer]
    scores: Mapping[str, Floats | npt.NDArray[np.integer]]
    metrics: MetricsOf


def ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``, NaN where the latter is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.nan, above / below)


def mean(weights: Floats, values: Floats) -> Floats:
    """Weighted means (R,) of the values (N,) that are not NaN."""
    known = ~np.isnan(values)
    return ratio(weights[:, known] @ values[known], weights[:, known].sum(1))
