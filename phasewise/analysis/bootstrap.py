"""Bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from phasewise.analysis.items import Floats, Items

CHUNK = 50
"""Resamples that are computed together."""


class Interval(NamedTuple):
    """Bounds of a metric."""

    low: float
    high: float


def resample(items: Items, *, resamples: int, seed: int) -> dict[str, Floats]:
    """The metrics of a split in resamples of its items, by name; NaN where one is undefined.

    Items are drawn with replacement, as many as there are, and the metrics computed anew (Efron &
    Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3).

    Args:
        items: at least one.
        resamples: how often.
        seed: the same seed draws the same resamples of as many items, whatever their scores.
    """
    generator, count = np.random.default_rng(seed), len(items.rows)
    found: dict[str, list[Floats]] = {}
    with tqdm(total=resamples, desc="bootstrap", unit="", leave=False, delay=2) as bar:
        for start in range(0, resamples, CHUNK):
            size = min(CHUNK, resamples - start)
            weights = generator.multinomial(count, np.full(count, 1 / count), size).astype(float)
            for name, values in items.metrics(weights).items():
                found.setdefault(name, []).append(values)
            bar.update(size)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def intervals(samples: Mapping[str, Floats], confidence: float) -> dict[str, Interval]:
    """Percentile intervals by name.

    Resamples in which a metric is undefined do not count for it; a metric that always is has none.
    """
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    defined = {name: values[~np.isnan(values)] for name, values in samples.items()}
    return {
        name: Interval(*map(float, np.quantile(values, tails)))
        for name, values in defined.items()
        if len(values)
    }


def over_runs(runs: Sequence[Mapping[str, Floats]], seed: int = 0) -> dict[str, Floats]:
    """Means over runs in resamples of runs and items: another training, judged by other items.

    Each resample draws as many runs as there are, with replacement, and takes their metrics in one
    and the same resample of the items (Davison & Hinkley 1997, "Bootstrap Methods and their
    Application", section 3.8: hierarchical data). Of few runs the spread is somewhat too small.

    Args:
        runs: `resample` of each, with the same number of items, resamples and seed.
        seed: draws the runs.
    """
    names = [name for name in runs[0] if all(name in run for run in runs)]
    if not names:
        return {}
    count, resamples = len(runs), len(runs[0][names[0]])
    drawn = np.random.default_rng(seed).integers(count, size=(count, resamples))
    found = {}
    for name in names:
        values = np.stack([run[name] for run in runs])
        found[name] = np.take_along_axis(values, drawn, 0).mean(0)
    return found
