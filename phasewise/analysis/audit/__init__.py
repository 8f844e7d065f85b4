"""What in a study keeps its results from meaning what they seem to mean.

`audit` applies every rule to a study, finished or not; `RULES` says what each looks for. Rules know
records, histories and the plan, no task: a metric is looked at by its name only where several tasks
would name it so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from phasewise.analysis.audit import (
    choices,
    conditions,
    coverage,
    halving,
    training,
    trivial,
    validation,
)
from phasewise.analysis.audit.case import Case, Finding, Severity
from phasewise.study.results import StudyResult

__all__ = ["RULES", "Finding", "Severity", "audit"]

Rule = Callable[[Case], Iterator[Finding]]

_CHECKS: tuple[Rule, ...] = (
    *trivial.CHECKS,
    *validation.CHECKS,
    *choices.CHECKS,
    *training.CHECKS,
    *coverage.CHECKS,
    *halving.CHECKS,
    *conditions.CHECKS,
)

RULES: dict[str, str] = {
    check.__name__: (check.__doc__ or "").strip().splitlines()[0] for check in _CHECKS
}
"""One sentence for each rule, by its id."""

_ORDER: dict[str, int] = {"error": 0, "warning": 1, "note": 2}


def audit(study: StudyResult) -> list[Finding]:
    """All findings, errors first; none for a study without a fault."""
    case = Case(study)
    found = [finding for check in _CHECKS for finding in check(case)]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])
