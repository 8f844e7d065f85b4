"""Which phase's winner a study ends with, where several phases have none after them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from phasewise.records.record import RunRecord
from phasewise.study.journal import Phase
from phasewise.study.objectives import scalar, scalar_of
from phasewise.study.plan import Stage
from phasewise.study.selection import Values, told_apart
from phasewise.study.trial_job import TrialJob


def value_by(record: RunRecord, goal: Phase) -> float:
    """What a completed run scored by the study's objective, at the best epoch of its own; or NaN.

    A phase with a ``metric`` of its own has chosen epochs by that. Of several objectives it is the
    one number that they make, see `phasewise.study.objectives.scalar`: the first one where they
    make none.
    """
    if record.objective.get("metric") == goal.objective["metric"]:
        return scalar_of(goal, record)
    return scalar(goal, record.best) if record.status == "completed" else math.nan


def best_leaf(
    stages: Sequence[Stage],
    goal: Phase,
    outcome: Callable[[TrialJob], RunRecord],
) -> tuple[Stage, str]:
    """Of decided phases the one whose winner is best by the study's objective, and why.

    Args:
        stages: in the order of the file, at least one.
        goal: has the study's objectives.
        outcome: of a trial.

    Returns:
        The reason is empty where there is one phase.
    """
    found = {}
    for stage in stages:
        jobs = stage.jobs[stage.phase.winner or 0]
        rows = zip(stage.phase.seeds, jobs, strict=False)
        found[stage.phase.name] = {seed: value_by(outcome(job), goal) for seed, job in rows}
    name, reason = choose_leaf(found, goal.objective)
    return next(stage for stage in stages if stage.phase.name == name), reason


def choose_leaf(values: Mapping[str, Values], objective: Mapping[str, str]) -> tuple[str, str]:
    """The phase whose winner has the best mean; on a tie the earlier one.

    Seeds that only some have run do not count, as long as there are others: means over different
    seeds do not compare.

    Args:
        values: of the winner of each phase, by seed.
        objective: ``metric`` and ``mode``.

    Returns:
        Its name, and the reason, which is empty where there is one phase.
    """
    names = list(values)
    if len(names) < 2:
        return names[0], ""
    finite = {
        name: {seed: value for seed, value in one.items() if math.isfinite(value)}
        for name, one in values.items()
    }
    known = {name: one for name, one in finite.items() if one}
    metric = objective["metric"]
    if not known:
        return names[0], f"nothing has a result by {metric}, and {names[0]} is the first"
    common = set.intersection(*(set(one) for one in known.values()))
    means = {
        name: fmean(value for seed, value in one.items() if seed in common or not common)
        for name, one in known.items()
    }
    sign = 1.0 if objective["mode"] == "max" else -1.0
    best = max(means, key=lambda name: sign * means[name])
    others = [name for name in means if name != best]
    tie = [name for name in others if means[name] == means[best]]
    texts = []
    for name in others:
        own, theirs = told_apart(means[best], means[name])
        texts.append(f"{theirs} of {name}" if name not in tie else f"the same as {name}")
    if not texts:
        return best, f"the only one with a result by {metric}"
    rival = max(others, key=lambda name: sign * means[name])
    own = told_apart(means[best], means[rival])[0]
    over = f" over the seeds that all have ({', '.join(map(str, sorted(common)))})"
    uneven = common and any(set(one) != common for one in known.values())
    first = ", the earlier of these" if tie else ""
    return best, f"{metric} {own} against {', '.join(texts)}{first}{over if uneven else ''}"
