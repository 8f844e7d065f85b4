"""What halving saved, and what it may have cost: how well its rungs foretold the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from phasewise.analysis.bootstrap import Interval
from phasewise.records.record import RunRecord
from phasewise.study.halved import EPOCHS, Halved
from phasewise.study.journal import Branch
from phasewise.study.objectives import scalar_at, scalar_of
from phasewise.study.results import CandidateResult, PhaseResult, TrialResult

FEWEST = 4
"""So many pairs a rank correlation needs for an interval."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rank:
    """Spearman's rank correlation of the values at a rung with those at the end.

    Attributes:
        value: from -1 to 1.
        interval: of 95 %; ``None`` with less than `FEWEST` pairs.
        pairs: how many candidates ran to the end.
    """

    value: float
    interval: Interval | None
    pairs: int


@dataclass(frozen=True)
class Close:
    """A candidate that was dropped, and the worst of those that went on by their rank.

    Attributes:
        dropped, kept: indices in the phase.
        gap: how much better the kept one was at the rung, not negative unless its rung saw the
            dropped one later (ASHA).
        noise: half the width of the 95 % interval of a difference between two means over seeds.
    """

    dropped: int
    kept: int
    gap: float
    noise: float


@dataclass(frozen=True)
class RungSummary:
    """What came of a rung of a bracket.

    Attributes:
        level: of the branch, where each halves by itself; else empty.
        bracket: from 0.
        rung: index in `Halved.rungs`.
        seen, on: how many candidates came to it, and went on from it.
        rank: among the candidates of all brackets that ran to the end; ``None`` with fewer than
            two of them, or where all are equal; of a branch, its own.
        noise: as in `Close`; NaN with one seed: then nobody knows.
        close: the candidates that were dropped within noise.
    """

    level: str
    bracket: int
    rung: int
    seen: int
    on: int
    rank: Rank | None
    noise: float
    close: tuple[Close, ...]


def rung_values(phase: PhaseResult, one: CandidateResult, rung: int) -> dict[int, float]:
    """What ranks a candidate at a rung below the last by seed, of the seeds that have it."""
    settings = phase.plan.halving
    assert settings is not None
    if settings.unit != EPOCHS:
        runs = one.rungs[rung] if rung < len(one.rungs) else []
        return _scores(phase, runs)
    found = {}
    for trial in one.trials:
        rows, amount = trial.history(), int(settings.rungs[rung])
        if rows and (trial.value == trial.value or rows[-1]["epoch"] >= amount):
            found[trial.seed] = scalar_at(phase.plan, [rows], amount)
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def _scores(phase: PhaseResult, runs: Sequence[TrialResult]) -> dict[int, float]:
    """What ranks completed runs, by seed."""
    found = {run.seed: scalar_of(phase.plan, run.record) for run in runs if run.record is not None}
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def stopped_value(phase: PhaseResult, one: CandidateResult) -> float:
    """The mean over seeds of the objective where halving stopped a candidate; NaN without one."""
    settings, stopped = phase.plan.halving, one.plan.epochs
    if stopped is None:
        return math.nan
    if settings is None or stopped not in settings.rungs:  # a journal of an older version
        histories = [trial.history() for trial in one.trials]
        return scalar_at(phase.plan, histories, int(stopped)) if histories else math.nan
    values = rung_values(phase, one, settings.rungs.index(stopped))
    return fmean(values.values()) if len(values) == len(one.trials) and values else math.nan


def rung_summaries(phase: PhaseResult) -> list[RungSummary]:
    """The rungs below the last one, bracket by bracket in each branch; none where the phase does
    not halve, or has not decided."""
    settings = phase.plan.halving
    if settings is None or not settings.full:
        return []
    return [
        _summary(phase, settings, branch, bracket, rung)
        for branch in phase.plan.rivals()
        for bracket in range(settings.brackets)
        for rung in range(bracket, len(settings.rungs) - 1)
    ]


def _summary(
    phase: PhaseResult, settings: Halved, branch: Branch, bracket: int, rung: int
) -> RungSummary:
    whole = [phase.candidates[row] for row in branch.candidates]
    rows = [
        row
        for row, one in zip(branch.candidates, whole, strict=True)
        if one.trials
        and one.plan.bracket == bracket
        and (one.plan.epochs is None or one.plan.epochs >= settings.rungs[rung])
    ]
    values = {row: rung_values(phase, phase.candidates[row], rung) for row in rows}
    on = [row for row in rows if phase.candidates[row].plan.epochs != settings.rungs[rung]]
    noise = _noise([*values.values()])
    close = []
    if not math.isnan(noise):
        close = [*_close(phase, values, on, noise, branch.incumbent)]
    rank = rank_agreement(phase, whole, rung)
    counts = len(rows), len(on)
    return RungSummary(branch.level, bracket, rung, *counts, rank, noise, tuple(close))


def rank_agreement(
    phase: PhaseResult, candidates: Sequence[CandidateResult], rung: int
) -> Rank | None:
    """How the ranks at a rung agree with those at the end, among the candidates that got there.

    Only the better ones did, which are closer to each other than all would be: among all of them
    the agreement is rather better than this.
    """
    pairs = []
    for one in candidates:
        at, end = rung_values(phase, one, rung), _scores(phase, one.trials)
        if one.plan.epochs is None and end and at.keys() == end.keys():
            pairs.append((fmean(at.values()), fmean(end.values())))
    return spearman(pairs)


def spearman(pairs: Sequence[tuple[float, float]]) -> Rank | None:
    """Spearman's rank correlation with its 95 % interval.

    The interval is Fisher's, with the variance ``(1 + r ** 2 / 2) / (n - 3)`` of Bonett and Wright
    (Sample size requirements for estimating Pearson, Kendall and Spearman correlations,
    Psychometrika 2000).
    """
    import numpy as np
    from scipy.stats import norm, rankdata

    if len(pairs) < 2:
        return None
    ranks = [rankdata(column) for column in zip(*pairs, strict=True)]
    if min(float(np.ptp(column)) for column in ranks) == 0:
        return None
    value = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    if len(pairs) < FEWEST:
        return Rank(value, None, len(pairs))
    error = math.sqrt((1 + value**2 / 2) / (len(pairs) - 3))
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    middle = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    return Rank(value, Interval(math.tanh(middle - half), math.tanh(middle + half)), len(pairs))


def _noise(values: Sequence[dict[int, float]]) -> float:
    """Half the width of the interval of a difference of two means, from the pooled variance over
    seeds (Student's t); NaN where no candidate has two."""
    from scipy.stats import t

    found = [[*one.values()] for one in values if len(one) > 1]
    freedom = sum(len(one) - 1 for one in found)
    if not freedom:
        return math.nan
    pooled = sum(variance(one) * (len(one) - 1) for one in found) / freedom
    seeds = fmean(len(one) for one in found)
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(pooled * 2 / seeds)


def _close(
    phase: PhaseResult,
    values: dict[int, dict[int, float]],
    on: Sequence[int],
    noise: float,
    incumbent: int | None,
) -> Iterator[Close]:
    sign = 1.0 if phase.plan.objective["mode"] == "max" else -1.0
    means = {row: sign * fmean(one.values()) for row, one in values.items() if one}
    # the incumbent goes on whatever its rank
    ranked = [row for row in on if row in means and row != incumbent] or [
        row for row in on if row in means
    ]
    if not ranked:
        return
    last = min(ranked, key=lambda row: means[row])
    for row in sorted(means, key=lambda row: -means[row]):
        gap = means[last] - means[row]
        if row not in on and gap <= noise:
            yield Close(row, last, gap, noise)


def hours_saved(phase: PhaseResult) -> float:
    """About how many hours of its device the phase would have taken more; NaN if unknown.

    By epochs: those not run, each as long as the run's own. By a key: as if those that were stopped
    took as long as the mean of those that ran to the end, less what the lower rungs took.
    """
    settings = phase.plan.halving
    if settings is None:
        return math.nan
    stopped = [one for one in phase.candidates if one.plan.epochs is not None]
    if settings.unit == EPOCHS:
        seconds = [
            _cost(trial.record, "seconds_per_epoch") * (settings.rungs[-1] - one.plan.epochs)
            for one in stopped
            for trial in one.trials
            if one.plan.epochs is not None
        ]
        return sum(seconds) / 3600
    ended = [
        _cost(trial.record, "seconds")
        for one in phase.candidates
        for trial in (one.trials if one.plan.epochs is None else [])
    ]
    lower = [
        _cost(run.record, "seconds")
        for one in phase.candidates
        for runs in one.rungs
        for run in runs
        if run.record is not None
    ]
    if not ended:
        return math.nan
    return (sum(len(one.trials) for one in stopped) * fmean(ended) - sum(lower)) / 3600


def _cost(record: RunRecord | None, key: str) -> float:
    value = None if record is None else record.cost.get(key)
    return math.nan if value is None else float(value)
