"""What halving may have thrown away."""

from __future__ import annotations

from collections.abc import Iterator

from phasewise.analysis.audit.case import Case, Finding, count, of_phase
from phasewise.analysis.statistics.halving import Close, rung_summaries
from phasewise.study.halved import EPOCHS, Halved
from phasewise.study.results import PhaseResult

MOST = 5
"""So many are named of a rung."""


def dropped_within_noise(case: Case) -> Iterator[Finding]:
    """Configurations that halving dropped within the noise of seeds."""
    for phase in case.compared:
        settings = phase.plan.halving
        if settings is None or not case.is_over(phase):
            continue
        close = [(one.rung, it) for one in rung_summaries(phase) for it in one.close]
        if close:
            rungs = sorted({rung for rung, _ in close})
            at = ", ".join(settings.at(rung) for rung in rungs)
            yield Finding(
                "dropped_within_noise",
                "warning",
                f"{of_phase(phase)}halving dropped {count(len(close), 'configuration')} at {at} "
                "within the noise of seeds: the best one may be among them",
                tuple(_line(phase, settings, rung, one) for rung, one in close[:MOST]),
                _advice(phase, settings, rungs[0]),
                phase.plan.name,
            )


def _line(phase: PhaseResult, settings: Halved, rung: int, close: Close) -> str:
    dropped, kept = (phase.label(phase.candidates[row]) for row in (close.dropped, close.kept))
    gap = f"{close.gap:.4g} behind {kept}, noise {close.noise:.4g}"
    return f"{dropped}: at {settings.at(rung)} {gap}"


def _advice(phase: PhaseResult, settings: Halved, rung: int) -> str:
    key = f"study.phases.{phase.plan.name}.halving"
    later = ""
    if settings.unit != EPOCHS:
        later = "a larger first value compares later, "
    elif rung + 2 < len(settings.rungs):
        later = f"{key}.epochs={settings.rungs[rung + 1]:g} compares later, "
    return (
        f"{later}a smaller {key}.factor keeps more of them, more seeds tell them apart; what ran "
        "is not run again"
    )


CHECKS = (dropped_within_noise,)
