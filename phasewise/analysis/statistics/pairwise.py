"""The values of a key against each other, two at a time: tests and sizes of effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from phasewise.analysis.statistics.frame import in_order
from phasewise.analysis.statistics.intervals import Analysis, holm
from phasewise.analysis.statistics.pairs import compare

MOST_VALUES = 8
"""Of a key: more would be compared in more than 28 pairs, among which nothing is ever clear."""


def pairwise(
    frame: pd.DataFrame,
    key: str,
    others: Sequence[str],
    measure: str = "value",
    *,
    is_sample: bool = False,
) -> Analysis:
    """Every two values of a key, over trials that differ in nothing else (seeds are blocks).

    The table has a row per two values with results: ``a``, ``b``, ``n`` (pairs of trials),
    ``difference`` (mean of a less b), ``p`` (paired t-test, two-sided), ``p_holm`` (Holm 1979, over
    the rows), ``g`` (Hedges' g of the differences) and ``delta`` (Cliff's delta within pairs).
    Where settings were drawn at random and there are no pairs, rows are by Welch's test over all
    trials, and g and delta are those of two groups; ``paired`` says which.

    Args:
        frame: rows of `phasewise.analysis.statistics.frame.trial_frame`, of one phase.
        key: whose values are compared.
        others: the other keys that the phase varies.
        measure: a column.
        is_sample: whether the settings were drawn at random.
    """
    method = "paired t-tests, two-sided, Holm-corrected"
    rows = frame.assign(y=frame[measure]).dropna(subset=["y"])
    values = in_order(list(rows[key]))
    if not 2 <= len(values) <= MOST_VALUES:
        what = "fewer than two" if len(values) < 2 else f"more than {MOST_VALUES}"
        return Analysis(method, None, f"{what} values have results")
    found = []
    for a, b in combinations(values, 2):
        one = compare(rows, key, others, a, b, is_sample=is_sample)
        if one is None:
            continue
        row = {"a": a, "b": b, "difference": one.difference, "p": one.p}
        if one.differences:
            sizes = {"g": paired_g(one.differences), "delta": paired_delta(one.differences)}
            found.append(row | sizes | {"n": len(one.differences), "paired": True})
        else:
            sizes = {"g": hedges_g(*one.groups), "delta": cliffs_delta(*one.groups)}
            found.append(row | sizes | {"n": min(map(len, one.groups)), "paired": False})
    if not found:
        return Analysis(method, None, "no two values have two common seeds or settings")
    table = pd.DataFrame(found)
    table["p_holm"] = holm(table["p"])
    note = "" if table["paired"].all() else "rows without pairs: Welch's test of all trials"
    return Analysis(method, table, note)


def correction(df: int) -> float:
    """Hedges' (1981) factor that takes the bias out of a standardised mean difference.

    J = gamma(df / 2) / (sqrt(df / 2) gamma((df - 1) / 2)); NaN with less than two degrees of
    freedom.
    """
    if df < 2:
        return math.nan
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def paired_g(differences: Sequence[float]) -> float:
    """Mean over standard deviation of paired differences, times `correction` of n - 1.

    NaN with less than three pairs; infinite where all differences are the same.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 3:
        return math.nan
    mean, noise = float(values.mean()), float(values.std(ddof=1))
    if noise == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return correction(len(values) - 1) * mean / noise


def hedges_g(one: Sequence[float], other: Sequence[float]) -> float:
    """Difference of means over the pooled standard deviation, times `correction` of n + m - 2."""
    n, m = len(one), len(other)
    if min(n, m) < 2:
        return math.nan
    pooled = ((n - 1) * np.var(one, ddof=1) + (m - 1) * np.var(other, ddof=1)) / (n + m - 2)
    if pooled == 0:
        return math.nan
    return correction(n + m - 2) * float((np.mean(one) - np.mean(other)) / math.sqrt(pooled))


def paired_delta(differences: Sequence[float]) -> float:
    """Share of pairs in which the first is larger less that in which it is smaller (Cliff 1993)."""
    return float(np.sign(np.asarray(differences, dtype=float)).mean())


def cliffs_delta(one: Sequence[float], other: Sequence[float]) -> float:
    """P(x > y) - P(x < y) of values x of the first and y of the second group (Cliff 1993)."""
    return float(np.sign(np.subtract.outer(np.asarray(one), np.asarray(other))).mean())
