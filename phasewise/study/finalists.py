"""The best configurations so far, for a phase that runs them once more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from omegaconf import OmegaConf

from phasewise.records.record import RunRecord
from phasewise.study.constraints import violations
from phasewise.study.halving_plan import last_rung
from phasewise.study.journal import Phase
from phasewise.study.objectives import WEIGHTED, scalar_of
from phasewise.study.plan import Planner, Stage
from phasewise.study.schema import Rerun
from phasewise.study.trial_job import TrialJob


def find_finalists(
    rerun: Rerun,
    stages: Sequence[Stage],
    base: Sequence[str],
    planner: Planner,
    outcome: Callable[[TrialJob], RunRecord],
    wanted: Phase,
) -> list[Sequence[str]]:
    """The words of the best configurations of all phases, that of ``base`` first.

    Args:
        rerun: how many; with ``per``, of each value of that key.
        stages: what ran so far; those that rank by something else do not count.
        base: what the phases have come to.
        planner: knows what words compute.
        outcome: of a trial.
        wanted: has the objectives and requirements of the phase that runs them.
    """
    sign = -1 if wanted.objective["mode"] == "max" else 1
    ranked: list[tuple[float, list[str]]] = []
    for stage in stages:
        if _ranking(stage.phase) != _ranking(wanted):
            continue
        for candidate, jobs in zip(stage.phase.candidates, stage.jobs, strict=True):
            records = [outcome(job) for job in jobs]
            values = [scalar_of(stage.phase, record) for record in records]
            barred = candidate.fallen or violations(wanted.require, records)
            if values and all(map(math.isfinite, values)) and not barred:
                # where halving scales the trials, its last value is this phase's own
                before = [word for word in stage.phase.base if word not in last_rung(stage.spec)]
                words = planner.choices.join(before, candidate.overrides)
                ranked.append((sign * fmean(values), words))

    def level(words: Sequence[str]) -> str | None:
        if rerun.per is None:
            return None
        return str(OmegaConf.select(planner.composer.config_of(words), rerun.per))

    identity = planner.composer.fingerprint  # words differ where one says a default
    found: dict[str, Sequence[str]] = {identity(base): base}
    counts = Counter([level(base)])
    for _, words in sorted(ranked, key=lambda pair: pair[0]):
        own, place = identity(words), level(words)
        if own not in found and counts[place] < rerun.top:
            found[own] = words
            counts[place] += 1
    return list(found.values())


def _ranking(phase: Phase) -> tuple[dict[str, str], dict[str, float] | None]:
    """What `phasewise.study.objectives.scalar` is computed from."""
    return phase.objective, phase.choose.get(WEIGHTED)


def planned_count(rerun: Rerun, before: Sequence[Stage]) -> int:
    """How many finalists there are at most, as far as a plan can tell."""
    if rerun.per is None:
        return rerun.top
    values = {value for one in before for value in one.phase.declared.get(rerun.per, ())}
    return rerun.top * max(len(values), 1)
