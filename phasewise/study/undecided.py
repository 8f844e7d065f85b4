"""Why a study ends with a phase that decided nothing, and what to do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from phasewise.errors import SHOWN
from phasewise.records.history import read_history
from phasewise.records.record import RunRecord
from phasewise.study.console import log_of
from phasewise.study.journal import Phase
from phasewise.study.results import objective_value

OUTCOMES = {
    "failed": "failed",
    "diverged": "diverged",
    "out_of_memory": "ran out of memory",
}


def explain_undecided(phase: Phase, records: Sequence[RunRecord]) -> str:
    """What became of trials that a decision needs and that have no result.

    Args:
        phase: in which nothing could be chosen; its ``reason`` says so.
        records: of all its trials, or of those of the incumbent where that one is missing.
    """
    metric = phase.objective["metric"]
    if lines := _infeasible(phase, records):
        return "\n".join(lines)
    undefined_records = [record for record in records if not math.isfinite(objective_value(record))]
    first: dict[str, RunRecord] = {}
    reasons: Counter[str] = Counter()
    for record in undefined_records:
        reason = _reason(record, metric)
        first.setdefault(reason, record)
        reasons[reason] += 1
    lines = [f"the study ends with its phase {phase.name}: {phase.reason}"]
    lines += [
        f"  {count} of {len(records)} trials {reason}{log_of(first[reason])}"
        for reason, count in reasons.most_common(SHOWN)
    ]
    if len(reasons) > SHOWN:
        lines.append(f"  ... and {len(reasons) - SHOWN} more reasons")
    lines.append("no later phase and no test was run")
    if any(record.status != "completed" for record in undefined_records):
        lines.append(
            "mend the cause; then the same command with study.retry_failed=true runs them again"
        )
    undefined = [record for record in undefined_records if record.status == "completed"]
    if undefined:
        lines.append(
            f"objective.metric chooses another one{_defined(undefined[0])}, together with "
            f"hydra.sweep.dir=DIR: the trials here were judged by {metric}"
        )
    return "\n".join(lines)


def _infeasible(phase: Phase, records: Sequence[RunRecord]) -> list[str]:
    """Where all that could win violates a requirement, or has no value of an objective."""
    found = [one for one in phase.candidates if one.infeasible]
    lines = [f"the study ends with its phase {phase.name}: {phase.reason}"]
    for one in found[:SHOWN]:
        name = " ".join(one.overrides) or "the configuration before"
        lines.append(f"  {name}: {', '.join(one.infeasible)}")
    if len(found) > SHOWN:
        lines.append(f"  ... and {len(found) - SHOWN} more")
    names = [one["metric"] for one in phase.objectives[1:]]
    scored = [record for record in records if math.isfinite(objective_value(record))]
    gone = [name for name in names if all(record.best.get(name) is None for record in scored)]
    if not found and scored and gone:
        lines.append(f"  no trial has a value of {', '.join(gone)}")
    if len(lines) == 1:
        return []
    key = "require" if found else "objectives"
    lines.append("no later phase and no test was run")
    what = f"the same command with another study.{key}"
    lines.append(f"{what} decides anew, and trains nothing again")
    return lines


def _reason(record: RunRecord, metric: str) -> str:
    if record.status == "completed":
        what = "(no validation sample has what it measures)"
        return f"completed, but {metric} is undefined in every epoch {what}"
    cause = (record.error or "no reason recorded").strip().partition("\n")[0]
    return f"{OUTCOMES.get(record.status, 'did not finish')}: {cause}"


def _defined(record: RunRecord) -> str:
    """The validation metrics that have a value in a run."""
    last = (read_history(record.directory) or [{}])[-1]
    keys = [key for key in last if key.startswith("val/") and key.count("/") == 1]
    found = [key for key in keys if math.isfinite(last[key])]
    return f" (defined: {', '.join(found[:SHOWN])})" if found else ""
