"""What became of the runs of a study: one that is still to come has not failed."""

from __future__ import annotations

from collections.abc import Iterator

from phasewise.analysis.audit.case import Case
from phasewise.report.view import STOPPED, CandidateView, PhaseView, StudyView, trial_status
from phasewise.study.results import TrialResult

NOT_BEGUN = "not begun"
"""The status of a run whose turn has not come, in a phase that is not over."""

RUNNING = "running"
PAUSED = "paused"


def run_status(study: StudyView, phase: PhaseView, one: CandidateView, trial: TrialResult) -> str:
    """`trial_status`, or `NOT_BEGUN` or ``running`` for what may still complete."""
    status = trial_status(trial, one)
    if Case(study.result).is_over(phase.result):
        return status
    if trial.record is None:
        return NOT_BEGUN
    running = trial.record.status == RUNNING and study.plan.status == RUNNING
    return RUNNING if running else status


def has_failed(study: StudyView, phase: PhaseView, status: str) -> bool:
    """Whether a run of that `run_status` ended without completing, by itself or with its study."""
    if status == PAUSED:  # by successive halving, until it has judged
        return Case(study.result).is_over(phase.result)
    return status not in ("completed", STOPPED, NOT_BEGUN, RUNNING)


def failed_runs(study: StudyView) -> Iterator[tuple[CandidateView, str]]:
    """The runs that did not complete, each once, with their status."""
    for phase, one, trial in study.trials():
        status = run_status(study, phase, one, trial)
        if has_failed(study, phase, status):
            yield one, status
