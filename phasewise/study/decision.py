"""What a phase decides by the records of its runs: constraints, objectives, selection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from phasewise.records.record import RunRecord
from phasewise.study.constraints import violations
from phasewise.study.journal import Phase
from phasewise.study.objectives import (
    GUARDED,
    PARETO,
    WEIGHTED,
    fallen,
    pareto_choice,
    scalar_of,
    way_of,
)
from phasewise.study.selection import (
    DIFFERENT_SAMPLES,
    Decision,
    Values,
    select,
    used_different_samples,
)

Runs = Mapping[int, RunRecord]
"""Of a candidate, by seed."""


def decide(
    phase: Phase, runs: Sequence[Runs], *, significant: bool = False, alpha: float = 0.05
) -> None:
    """Choose the winner of a phase, and write into it what was decided and why.

    A candidate that violates a requirement never wins. An incumbent that does is replaced by the
    best that satisfies all, without a test and without guards: it cannot stay.

    Args:
        phase: with its candidates.
        runs: of each.
        significant, alpha: see `phasewise.study.selection.select`.
    """
    for candidate, found in zip(phase.candidates, runs, strict=True):
        candidate.infeasible = violations(phase.require, found.values())
        candidate.fallen = []
    phase.front = []
    if used_different_samples(record for found in runs for record in found.values()):
        decision = Decision(phase.incumbent, "undecided", DIFFERENT_SAMPLES)
    else:
        decision = _of_feasible(phase, runs, significant, alpha)
    phase.winner, phase.verdict = decision.winner, decision.verdict
    phase.reason, phase.p_value = decision.reason, decision.p_value


def _of_feasible(phase: Phase, runs: Sequence[Runs], significant: bool, alpha: float) -> Decision:
    """As if there were no other candidates."""
    violated = [bool(one.infeasible) for one in phase.candidates]
    left = [{} if bad else found for found, bad in zip(runs, violated, strict=True)]
    incumbent = phase.incumbent
    lost = incumbent is not None and violated[incumbent]
    if PARETO in phase.choose:
        decision = pareto_choice(phase, left, None if lost else incumbent)
    else:
        complete = [_is_complete(phase, found) for found in runs]
        challengers = sum(complete) - (incumbent is not None and complete[incumbent])
        decision = select(
            _competing(phase, left, None if lost else incumbent),
            None if lost else incumbent,
            mode=phase.objective["mode"],
            seeds=phase.seeds,
            significant=significant,
            alpha=alpha,
            challengers=challengers,
        )
    has_result = any(math.isfinite(scalar_of(phase, it)) for each in left for it in each.values())
    if not has_result and any(violated):
        return replace(decision, reason=_none_feasible(phase))
    return replace(decision, reason=_explained(phase, decision.reason, lost))


def _is_complete(phase: Phase, runs: Runs) -> bool:
    return all(seed in runs and math.isfinite(scalar_of(phase, runs[seed])) for seed in phase.seeds)


def _competing(phase: Phase, runs: Sequence[Runs], incumbent: int | None) -> list[Values]:
    """What `select` goes by, without those that a guard keeps out."""
    if GUARDED in phase.choose and incumbent is not None:
        for candidate, words in zip(phase.candidates, fallen(phase, runs, incumbent), strict=True):
            candidate.fallen = words
    return [
        {} if one.fallen else {seed: scalar_of(phase, record) for seed, record in found.items()}
        for one, found in zip(phase.candidates, runs, strict=True)
    ]


def _explained(phase: Phase, reason: str, lost: bool) -> str:
    """The reason, with what several objectives and constraints have to do with it."""
    if WEIGHTED in phase.choose:
        reason = f"{way_of(phase)}: {reason}"
    if count := sum(bool(one.fallen) for one in phase.candidates):
        reason += f"; {count} left out for falling too far in another objective"
    count = sum(bool(one.infeasible) for one in phase.candidates) - lost
    if count:
        reason += f"; {count} infeasible"
    if lost and phase.incumbent is not None:
        violated = ", ".join(phase.candidates[phase.incumbent].infeasible)
        reason += f"; the incumbent is infeasible: {violated}"
    return reason


def _none_feasible(phase: Phase) -> str:
    count = sum(bool(one.infeasible) for one in phase.candidates)
    others = len(phase.candidates) - count
    return "no candidate is feasible" + (f" ({others} have no result)" if others else "")
