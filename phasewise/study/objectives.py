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
from phasewise.study.results import objective_value
from phasewise.study.selection import value_at

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


def _number(value: Any) -> float:
    """``None``, which stands for NaN in a record, as NaN."""
    return math.nan if value is None else float(value)
