"""What a key does, seen in pairs of trials that differ in nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from phasewise.analysis.statistics.intervals import paired_p
from phasewise.analysis.statistics.power import more_seeds, more_trials
from phasewise.study.results import Setting


@dataclass(frozen=True)
class Comparison:
    """Of a measure at one value of a key with that at another.

    Attributes:
        difference: of the means.
        p: two-sided, uncorrected.
        text: how they were compared.
        differences: of the pairs; empty where there are none.
        groups: the values of both, where there are no pairs.
    """

    difference: float
    p: float
    text: str
    differences: Sequence[float] = ()
    groups: tuple[Sequence[float], Sequence[float]] = ((), ())

    def needs(self, seeds: int, alpha: float) -> str:
        """What would tell the difference from noise, see `phasewise.analysis.statistics.power`."""
        if self.differences:
            return more_seeds(self.differences, seeds, alpha)
        return more_trials(*self.groups, seeds, alpha)


def pair_differences(
    rows: pd.DataFrame, key: str, others: Sequence[str], a: Setting, b: Setting
) -> list[float]:
    """Of a column ``y`` at one value less that at another, over rows of the same phase, seed and
    other settings."""
    rows = rows[rows[key].isin([a, b])].dropna(subset=["y"])
    match = ["phase", "seed", *others]
    wide = rows.pivot_table(index=match, columns=key, values="y", aggfunc="mean", sort=False)
    return [*(wide[a] - wide[b]).dropna()] if a in wide and b in wide else []


def compare(
    rows: pd.DataFrame,
    key: str,
    others: Sequence[str],
    a: Setting,
    b: Setting,
    *,
    is_sample: bool = False,
) -> Comparison | None:
    """By the paired t-test; without pairs by Welch's over all rows.

    Args:
        rows: with the columns ``phase``, ``seed``, all keys and ``y``.
        key: whose values are compared.
        others: the other keys, which pairs have in common.
        a: its value, less that at ``b``.
        b: the other value.
        is_sample: settings were drawn at random, so that one pair may be chance, and the other rows
            of both values are alike on average.

    Returns:
        ``None`` where there are too few rows for either.
    """
    from scipy import stats

    pairs = pair_differences(rows, key, others, a, b)
    if len(pairs) > 1:
        text = f"{len(pairs)} pairs that differ in nothing else"
        return Comparison(math.fsum(pairs) / len(pairs), paired_p(pairs), text, pairs)
    if pairs and not is_sample:
        return None
    first, second = (rows.loc[rows[key] == value, "y"].dropna() for value in (a, b))
    if min(len(first), len(second)) < 2:
        return None
    p = float(stats.ttest_ind(first, second, equal_var=False).pvalue)
    text = f"{len(first)} against {len(second)} trials that also differ in other settings"
    difference = float(first.mean() - second.mean())
    return Comparison(difference, 1.0 if math.isnan(p) else p, text, groups=([*first], [*second]))
