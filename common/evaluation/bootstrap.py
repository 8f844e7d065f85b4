"""Bootstrap confidence intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.items import Floats, Items

CHUNK = 50
"""Resamples that are computed together."""


class Interval(NamedTuple):
    """Bounds of a figure."""

    low: float
    high: float


def intervals(items: Items, *, resamples: int, confidence: float, seed: int) -> dict[str, Interval]:
    """Percentile intervals of the figures of a split, by name.

    Items are drawn with replacement, as many as there are, and the figures computed anew (Efron &
    Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3). Resamples in which a figure
    is undefined do not count for it; a figure that always is has no interval.

    Args:
        items: at least one.
        resamples: how often.
        confidence: of the intervals.
        seed: the same seed draws the same resamples.
    """
    generator, count = np.random.default_rng(seed), len(items.rows)
    found: dict[str, list[Floats]] = {}
    with tqdm(total=resamples, desc="bootstrap", unit="", leave=False, delay=2) as bar:
        for start in range(0, resamples, CHUNK):
            size = min(CHUNK, resamples - start)
            weights = generator.multinomial(count, np.full(count, 1 / count), size).astype(float)
            for name, values in items.figures(weights).items():
                found.setdefault(name, []).append(values)
            bar.update(size)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    result = {}
    for name, parts in found.items():
        values = np.concatenate(parts)
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, tails)
            result[name] = Interval(float(low), float(high))
    return result
