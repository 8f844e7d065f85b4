"""Several objectives: the one number that they make, or the choice where they make none.

A run has one best epoch, that of the first objective; all others are its values there, so that what
is compared is one network, not the best that each metric ever had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from phasewise.records.history import Row
from phasewise.records.record import RunRecord
from phasewise.study.journal import Phase
from phasewise.study.results import CandidateResult, objective_value
from phasewise.study.selection import Decision, Values, told_apart, value_at

WEIGHTED, GUARDED, PARETO = "weighted", "guarded", "pareto"


def scalar(phase: Phase, metrics: Mapping[str, Any]) -> float:
    """The number that ranks runs one by one, for search, halving and reruns of the best.

    With ``choose: weighted`` the weighted mean of the objectives as they are, those of another mode
    than the first counted as negative; else the first objective. Better in the sense of
    ``phase.objective["mode"]``. It depends on the run alone: what else a phase tries, or what its
    incumbent scores, changes no rank.

    Args:
        phase: with its objectives.
        metrics: of one epoch, by name.

    Returns:
        NaN where a metric lacks or is undefined.
    """
    weights = phase.choose.get(WEIGHTED)
    if weights is None:
        return _number(metrics.get(phase.objective["metric"]))
    total = 0.0
    for one in phase.objectives:
        sign = 1.0 if one["mode"] == phase.objective["mode"] else -1.0
        total += sign * weights[one["metric"]] * _number(metrics.get(one["metric"]))
    return total / sum(weights.values())


def scalar_of(phase: Phase, record: RunRecord) -> float:
    """`scalar` of a run at its best epoch; NaN unless it has completed with a result."""
    value = objective_value(record)
    own = {phase.objective["metric"]: value}
    return scalar(phase, record.best | own) if math.isfinite(value) else math.nan


def ranking_values(phase: Phase, candidate: CandidateResult) -> Values:
    """`scalar_of` the runs of a configuration by seed, of those that have it."""
    records = {trial.seed: trial.record for trial in candidate.trials if trial.record is not None}
    found = {seed: scalar_of(phase, record) for seed, record in records.items()}
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def scalar_at(phase: Phase, histories: Sequence[Sequence[Row]], epoch: int) -> float:
    """`scalar` of a configuration that ran up to an epoch, as the mean over its seeds' histories.

    Of each seed at the epoch up to there that is best by the first objective.
    """
    if WEIGHTED not in phase.choose:
        return value_at(histories, epoch, phase.objective)
    metric, sign = phase.objective["metric"], 1 if phase.objective["mode"] == "max" else -1
    found = []
    for history in histories:
        rows = [row for row in history if row["epoch"] <= epoch]
        known = [row for row in rows if math.isfinite(row.get(metric, math.nan))]
        best = max(known, key=lambda row: sign * row[metric], default={})
        found.append(scalar(phase, best))
    return fmean(found) if found else math.nan


def way_of(phase: Phase) -> str:
    """How its objectives choose, in words; empty where there is one objective."""
    names = [one["metric"] for one in phase.objectives]
    if weights := phase.choose.get(WEIGHTED):
        return (
            f"the weighted mean of {' and '.join(f'{name} ({weights[name]:g})' for name in names)}"
        )
    if tolerances := phase.choose.get(GUARDED):
        falls = [f"{name} falls by at most {tolerances[name]:g}" for name in names[1:]]
        return f"{names[0]}, where {' and '.join(falls)}"
    return (
        f"the knee of the Pareto front of {' and '.join(names)}" if PARETO in phase.choose else ""
    )


def measured(phase: Phase, runs: Mapping[int, RunRecord]) -> dict[str, Values]:
    """Each objective of a configuration by seed, at its runs' best epochs; what is undefined
    lacks."""
    first = phase.objective["metric"]
    found: dict[str, Values] = {one["metric"]: {} for one in phase.objectives}
    for seed, record in runs.items():
        value = objective_value(record)
        own = record.best | {first: value} if math.isfinite(value) else {}
        for metric, values in found.items():
            if math.isfinite(number := _number(own.get(metric))):
                values[seed] = number
    return found


def fallen(
    phase: Phase, runs: Sequence[Mapping[int, RunRecord]], incumbent: int
) -> list[list[str]]:
    """Of each configuration, in which objectives it falls too far below the incumbent.

    Means are over the seeds that both have. What the incumbent has no value of guards nothing; what
    a configuration has none of, and the incumbent has, has fallen.

    Args:
        phase: with ``choose: guarded``.
        runs: of each configuration, by seed.
        incumbent: index of it.
    """
    results = [measured(phase, each) for each in runs]
    found = []
    for row, own in enumerate(results):
        words = []
        for goal in phase.objectives[1:] if row != incumbent and own != results[incumbent] else ():
            name = goal["metric"]
            before, now = results[incumbent][name], own[name]
            seeds = [seed for seed in before if seed in now]
            if not own[phase.objective["metric"]] or not before:
                continue  # without a result it does not compete anyway
            if not seeds:
                words.append(f"{name} has no value to compare with the incumbent's")
                continue
            mean, reference = (fmean(one[seed] for seed in seeds) for one in (now, before))
            fall = (reference - mean) * (1 if goal["mode"] == "max" else -1)
            tolerance = phase.choose[GUARDED][name]
            if fall > tolerance and not math.isclose(fall, tolerance, rel_tol=1e-9):
                told = told_apart(mean, reference)
                words.append(f"{name} {told[0]} against {told[1]} of the incumbent")
        found.append(words)
    return found


def non_dominated(points: Sequence[Sequence[float]]) -> list[int]:
    """The points that no other one dominates, more being better in each coordinate.

    A point dominates another one if it is at least as good in all and better in one (Pareto
    optimality); of equal points all are kept.

    Args:
        points: finite, all of as many coordinates.

    Returns:
        Their indices, ascending.
    """
    import numpy as np

    found = np.asarray(points, dtype=float)
    return [
        row
        for row, point in enumerate(found)
        if not ((found >= point).all(axis=1) & (found > point).any(axis=1)).any()
    ]


def knee_distances(front: Sequence[Sequence[float]]) -> list[float]:
    """How far each point of a Pareto front lies from the line through its ends, more being better.

    Das (1999), On characterizing the knee of the Pareto curve based on normal-boundary
    intersection, Structural Optimization 18: the knee is the farthest. Each objective is scaled to
    0..1 over the front before. Of three objectives and more, from the plane through the points that
    have 1 in one of them and 0 in all others.

    Returns:
        Distances, negative on the side of what is dominated; 0 of a single point.
    """
    import numpy as np

    points = np.asarray(front, dtype=float)
    span = np.ptp(points, axis=0)
    if not span.any():  # one point, or several that are equal
        return [0.0] * len(points)
    scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
    return [float(one) for one in (scaled.sum(axis=1) - 1) / math.sqrt(points.shape[1])]


def pareto_choice(
    phase: Phase, runs: Sequence[Mapping[int, RunRecord]], incumbent: int | None
) -> Decision:
    """The knee of the Pareto front of means over seeds; the front is written into the phase.

    As in `select`, configurations with results of more seeds go before the others. Where several
    points are as far out (of two, both are), the incumbent stays if it is one of them, else the
    best by the first objective wins.

    Args:
        phase: with its objectives.
        runs: of each configuration, by seed; none of those that do not compete.
        incumbent: index of it, if it competes.
    """
    names = [one["metric"] for one in phase.objectives]
    signs = [1.0 if one["mode"] == "max" else -1.0 for one in phase.objectives]
    results = [measured(phase, each) for each in runs]
    seeds = [[s for s in phase.seeds if all(s in own[name] for name in names)] for own in results]
    most = max(map(len, seeds), default=0)
    if not most:
        return Decision(None, "undecided", "no candidate has a result in all objectives")
    rows = [row for row, own in enumerate(seeds) if len(own) == most]
    means = {
        row: [fmean(results[row][name][s] for s in seeds[row]) for name in names] for row in rows
    }
    points = [[sign * value for sign, value in zip(signs, means[row], strict=True)] for row in rows]
    front = non_dominated(points)
    phase.front = [rows[place] for place in front]
    distances = knee_distances([points[place] for place in front])
    tied = [
        row
        for row, distance in zip(phase.front, distances, strict=True)
        if math.isclose(distance, max(distances), abs_tol=1e-9)
    ]
    winner = max(tied, key=lambda row: signs[0] * means[row][0])
    if incumbent in tied:
        winner = incumbent
    pairs = zip(names, means[winner], strict=True)
    reason = _front_reason(len(phase.front), len(tied), winner == incumbent)
    reason += f" ({', '.join(f'{name} {value:.4g}' for name, value in pairs)})"
    reason += "" if most == len(phase.seeds) else f" (with {most} of {len(phase.seeds)} seeds)"
    if incumbent is not None and incumbent not in rows:
        reason += "; the incumbent has no complete result"
    return Decision(winner, "kept" if winner == incumbent else "adopted", reason)


def _front_reason(count: int, tied: int, stays: bool) -> str:
    if count == 1:
        return "nothing is better in any objective"
    if tied == 1:
        return f"knee of a Pareto front of {count}"
    rule = "the incumbent is one of them" if stays else "best of them by the first objective"
    return f"{tied} of a Pareto front of {count} lie as far out: {rule}"


def _number(value: Any) -> float:
    """``None``, which stands for NaN in a record, as NaN."""
    return math.nan if value is None else float(value)
