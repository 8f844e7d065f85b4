"""A run that stands alone, read as a sweep of one trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from phasewise.errors import Problem, UserError
from phasewise.study.rebuild import Run, rebuild
from phasewise.study.results import StudyResult, read_phase


def read_run(directory: str | Path) -> StudyResult:
    """One run, whatever study it may have been part of.

    Raises:
        UserError: it has left nothing that can be read.
    """
    directory = Path(directory).resolve()
    problems: list[Problem] = []
    run = replace(Run.read(directory, ""), study="", places=[])
    plan = rebuild(directory.parent, [run], problems)
    if plan is None or run.record is None:
        what = problems[0].reason if problems else "its record cannot be read"
        raise UserError(f"{directory}: {what}")
    plan.name = directory.name
    return StudyResult(plan, [read_phase(phase, directory.parent) for phase in plan.phases])
