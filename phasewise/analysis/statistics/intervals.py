"""Means over seeds with their uncertainty, and candidates compared with each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from phasewise.study.objectives import ranking_values
from phasewise.study.results import PhaseResult
from phasewise.study.selection import Values

CONFIDENCE = 0.95
LEAST_FOR_WILCOXON = 6
"""With five pairs the smallest two-sided p-value is .0625: the test could never find anything."""

LEAST_FOR_CORRELATION = 4
"""Fisher's interval of a correlation has the standard error 1 / sqrt(n - 3)."""

ROUNDING = 1e-12
"""Relative size up to which values differ by their rounding alone."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Analysis:
    """What came of a method.

    Attributes:
        method: its name, for the report.
        table: the result, ``None`` where the method does not apply.
        note: why it does not, or what limits the result; empty if there is nothing to say.
    """

    method: str
    table: pd.DataFrame | None
    note: str = ""


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Of the mean, by Student's t with n - 1 degrees of freedom; NaN with less than two values."""
    from scipy import stats

    if len(values) < 2:
        return math.nan, math.nan
    mean, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0:  # scipy's interval of width 0 is NaN
        return mean, mean
    low, high = stats.t.interval(confidence, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def candidate_frame(phase: PhaseResult) -> pd.DataFrame:
    """One row per candidate of a phase, in the order of the plan; the objective over its seeds.

    Columns: ``label``, ``n`` (seeds with a value), ``planned`` (seeds), ``mean``, ``std`` (n - 1),
    ``low`` and ``high`` (`t_interval`), ``best`` and ``worst`` seed's value, ``difference`` of the
    mean to the incumbent's, the same in ``percent`` of the incumbent's, and the bools ``incumbent``
    and ``winner``. Missing numbers are NaN; differences are of unrounded means.
    """
    plan = phase.plan
    maximise = plan.objective["mode"] == "max"
    before = math.nan
    if plan.incumbent is not None:
        before = _mean([*phase.candidates[plan.incumbent].values.values()])
    rows = []
    for index, candidate in enumerate(phase.candidates):
        values = [*candidate.values.values()]
        ordered = sorted(values, reverse=maximise)
        low, high = t_interval(values)
        difference = _mean(values) - before
        rows.append(
            {
                "label": phase.label(candidate),
                "n": len(values),
                "planned": len(candidate.trials),
                "mean": _mean(values),
                "std": float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
                "low": low,
                "high": high,
                "best": ordered[0] if ordered else math.nan,
                "worst": ordered[-1] if ordered else math.nan,
                "difference": difference,
                "percent": 100 * difference / abs(before) if before else math.nan,
                "incumbent": index == plan.incumbent,
                "winner": index == plan.winner,
            }
        )
    return pd.DataFrame(rows)


def compare_with(phase: PhaseResult, reference: int) -> Analysis:
    """Each candidate against one of them (the winner, say), paired over the seeds both have.

    Compared is what ranks them: the objective, or the weighted mean of several.

    The table has a row per other candidate with at least two common seeds: ``candidate`` (index),
    ``label``, ``pairs``, ``difference`` (reference less candidate, mean over pairs), ``p`` of the
    two-sided paired t-test, ``p_holm`` (Holm 1979, over all rows) and, with `LEAST_FOR_WILCOXON`
    pairs or more, ``p_wilcoxon`` (signed ranks) and ``p_wilcoxon_holm``.
    """
    method = "paired t-test over seeds, two-sided, Holm-corrected"
    values = [ranking_values(phase.plan, one) for one in phase.candidates]
    rows = []
    for index, candidate in enumerate(phase.candidates):
        pairs = _pairs(values[reference], values[index])
        if index != reference and len(pairs) > 1:
            row = {"candidate": index, "label": phase.label(candidate), "pairs": len(pairs)}
            rows.append(row | _paired_tests(pairs))
    if not rows:
        return Analysis(method, None, "no two candidates have results of two common seeds")
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"])
    table["p_wilcoxon_holm"] = holm(table["p_wilcoxon"])
    return Analysis(method, table)


def paired_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of the paired t-test that the mean difference is 0.

    Where all differences are equal (but for rounding), and there is no t-value: 1 if they are 0,
    else 0. NaN of less than two.
    """
    from scipy import stats

    if len(differences) < 2:
        return math.nan
    size = max(map(abs, differences))
    if max(differences) - min(differences) <= ROUNDING * size:
        return float(size == 0)
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float] | pd.Series) -> np.ndarray:
    """Holm's (1979) correction; NaN stays NaN and does not count.

    As statsmodels' ``multipletests``, which collects the garbage of the whole process each time.
    """
    corrected = np.array(p_values, dtype=float)
    known = np.flatnonzero(np.isfinite(corrected))
    ascending = known[np.argsort(corrected[known], kind="stable")]
    factors = np.arange(len(ascending), 0, -1)
    corrected[ascending] = np.maximum.accumulate(corrected[ascending] * factors).clip(max=1)
    return corrected


def correlation(frame: pd.DataFrame, x: str, y: str) -> Analysis:
    """How two columns go together, e.g. ``stability`` and ``value``, over rows that have both.

    The table has the rows ``pearson`` (with Fisher's interval) and ``spearman`` (ranks) and the
    columns ``r``, ``p``, ``low``, ``high``, ``n``.
    """
    from scipy import stats

    method = "Pearson's and Spearman's correlation"
    both = frame[[x, y]].dropna()
    n = len(both)
    if n < LEAST_FOR_CORRELATION:
        return Analysis(method, None, f"only {n} trials have both, {x} and {y}")
    if both[x].nunique() < 2 or both[y].nunique() < 2:
        return Analysis(method, None, f"{x if both[x].nunique() < 2 else y} is always the same")
    pearson, spearman = stats.pearsonr(both[x], both[y]), stats.spearmanr(both[x], both[y])
    interval = pearson.confidence_interval(CONFIDENCE)
    # of n! orders two are as extreme as a perfect one; the t-distribution gives less, down to 0
    least = 2 / math.factorial(min(n, 100))
    table = pd.DataFrame(
        {
            "r": [pearson.statistic, spearman.statistic],
            "p": [pearson.pvalue, max(spearman.pvalue, least)],
            "low": [interval.low, math.nan],
            "high": [interval.high, math.nan],
            "n": n,
        },
        index=["pearson", "spearman"],
    )
    return Analysis(method, table)


def _pairs(chosen: Values, values: Values) -> list[tuple[float, float]]:
    return [(chosen[seed], values[seed]) for seed in chosen if seed in values]


def _paired_tests(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    from scipy import stats

    differences = [a - b for a, b in pairs]
    signed = math.nan
    if len(pairs) >= LEAST_FOR_WILCOXON and any(differences):
        signed = float(stats.wilcoxon(differences).pvalue)
    return {
        "difference": _mean(differences),
        "p": paired_p(differences),
        "p_wilcoxon": signed,
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
