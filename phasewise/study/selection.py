"""Which candidate of a phase the later phases start from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.study.journal import Verdict

Values = dict[int, float]
"""The objective of a candidate by seed; seeds without a result are missing, or NaN."""


DIFFERENT_SAMPLES = "the candidates were judged by different validation samples"


ROUNDING = 1e-12
"""Relative difference of two means that comes of the order in which numbers are added."""


@dataclass(frozen=True)
class Decision:
    """What was chosen.

    Attributes:
        winner: index of a candidate; ``None`` if none has a result that can be compared.
        verdict, reason: see `phasewise.study.journal.Phase`.
        p_value: of the paired test, where one was made.
    """

    winner: int | None
    verdict: Verdict
    reason: str
    p_value: float | None = None


def used_different_samples(records: Iterable[RunRecord]) -> bool:
    """Whether completed runs of one seed had different validation samples, which makes their
    metrics those of different exams."""
    found: dict[int | None, set[Any]] = defaultdict(set)
    for record in records:
        hashes = record.data.get("hashes")
        if record.status == "completed" and isinstance(hashes, Mapping):
            found[record.seed].add(hashes.get("val"))
    return any(len(different) > 1 for different in found.values())


def select(
    candidates: Sequence[Values],
    incumbent: int | None,
    *,
    mode: str,
    seeds: Sequence[int],
    significant: bool = False,
    alpha: float = 0.05,
    challengers: int = 0,
) -> Decision:
    """Choose the candidate with the best mean over the seeds.

    Means over different seeds cannot be compared: candidates with a result for every seed go
    before all others, and only if there is none, those with the most results compete. On a tie (up
    to the rounding of a mean) the incumbent stays, else the first one wins.

    Args:
        candidates: the objective of each by seed; NaN and infinite values count as missing.
        incumbent: index of the configuration that the phase started from, if it is among them.
        mode: ``max`` or ``min``.
        seeds: all that each candidate was to run with.
        significant: the incumbent stays unless `paired_p_value`, times the number of challengers
            (Bonferroni), is at most ``alpha``. Against one that lacks results no gain can be
            tested, so it stays too; against one that has none at all nothing can be decided.
        alpha: largest p-value that counts as significant.
        challengers: at least so many are corrected for, where some were left out for what they
            scored in something else.
    """
    sign = 1.0 if mode == "max" else -1.0
    results = [_finite(values, seeds) for values in candidates]
    most = max(map(len, results), default=0)
    if not most:
        return Decision(None, "undecided", "no candidate has a result")
    short = "" if most == len(seeds) else f" (with {most} of {len(seeds)} seeds)"
    eligible = [row for row, values in enumerate(results) if len(values) == most]
    means = {row: fmean(results[row].values()) for row in eligible}
    best = max(eligible, key=lambda row: sign * means[row])
    if incumbent is None or incumbent not in means:
        lost = "" if incumbent is None else "; the incumbent has no complete result"
        chosen = Decision(best, "adopted", f"best mean {means[best]:.4g}{short}{lost}")
        tested = significant and incumbent is not None
        return _untested(incumbent or 0, results, seeds) if tested else chosen
    before = means[incumbent]
    if sign * means[best] <= sign * before or math.isclose(means[best], before, rel_tol=ROUNDING):
        return Decision(incumbent, "kept", f"the incumbent's {before:.4g} is best{short}")
    ours, theirs = told_apart(means[best], before)
    gain = f"{ours} against {theirs} of the incumbent{short}"
    if not significant:
        return Decision(best, "adopted", gain)
    count = max(challengers, sum(1 for row in eligible if row != incumbent))
    p_value = min(1.0, count * paired_p_value(results[best], results[incumbent], mode))
    if p_value <= alpha:
        return Decision(best, "adopted", f"{gain}, p = {p_value:.3g}", p_value)
    reason = f"{gain}, but p = {p_value:.3g} > {alpha:g}"
    return Decision(incumbent, "within_noise", reason, p_value)


def _untested(incumbent: int, results: Sequence[Values], seeds: Sequence[int]) -> Decision:
    """What a significance test leaves where the incumbent has not run with every seed."""
    found = results[incumbent]
    if not found:
        return Decision(
            None,
            "undecided",
            "the incumbent has no result, so that no gain can be tested (study.adopt=best "
            "chooses without a test)",
        )
    lacks = f"the incumbent has {len(found)} of {len(seeds)} results"
    return Decision(incumbent, "kept", f"{lacks}, so that no gain can be tested")


def paired_p_value(challenger: Values, incumbent: Values, mode: str) -> float:
    """One-sided p-value of a paired t-test over common seeds: "the challenger is no better".

    1 if there are fewer than two common seeds; where all differences are equal, which has no
    t-value, 0 if the challenger is better and 1 if not.
    """
    from scipy.stats import ttest_rel

    common = sorted(challenger.keys() & incumbent.keys())
    if len(common) < 2:
        return 1.0
    new, old = [challenger[s] for s in common], [incumbent[s] for s in common]
    better = "greater" if mode == "max" else "less"
    differences = [a - b for a, b in zip(new, old, strict=True)]
    if max(differences) == min(differences):
        return 0.0 if (differences[0] > 0) == (mode == "max") and differences[0] else 1.0
    return float(ttest_rel(new, old, alternative=better).pvalue)


def survivors(values: Sequence[float], count: int, mode: str) -> list[int]:
    """The ``count`` best rows in their order; the first on a tie, undefined values never."""
    sign = 1.0 if mode == "max" else -1.0
    rows = [row for row, value in enumerate(values) if math.isfinite(value)]
    return sorted(sorted(rows, key=lambda row: -sign * values[row])[:count])


def _finite(values: Values, seeds: Sequence[int]) -> Values:
    return {seed: values[seed] for seed in seeds if math.isfinite(values.get(seed, math.nan))}


def value_at(histories: Sequence[Sequence[Row]], rung: int, objective: dict[str, str]) -> float:
    """The best value of the objective up to an epoch, as the mean over the seeds' histories, or
    NaN."""
    sign = 1 if objective["mode"] == "max" else -1
    best = []
    for history in histories:
        rows = [row for row in history if row["epoch"] <= rung]
        values = [row.get(objective["metric"], math.nan) for row in rows]
        best.append(max((sign * v for v in values if math.isfinite(v)), default=math.nan))
    return sign * fmean(best)


def told_apart(one: float, other: float) -> tuple[str, str]:
    """Two numbers with four digits, or as many as show that they differ.

    >>> told_apart(0.5, 0.25), told_apart(0.42441, 0.42439), told_apart(0.1, 0.1)
    (('0.5', '0.25'), ('0.42441', '0.42439'), ('0.1', '0.1'))
    """
    for digits in range(4, 18):
        if (texts := (f"{one:.{digits}g}", f"{other:.{digits}g}"))[0] != texts[1]:
            return texts
    return f"{one:.4g}", f"{other:.4g}"
