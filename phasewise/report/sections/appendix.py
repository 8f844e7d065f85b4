"""Every run with its overrides, cost and status, and why some failed."""

from __future__ import annotations

import shlex

from phasewise.analysis.statistics.frame import trial_name_of
from phasewise.report.content import Column, Section, Table
from phasewise.report.outcomes import has_failed, run_status
from phasewise.report.view import PhaseView, StudyView

COSTS = {
    "epochs": Column("epochs", "count"),
    "seconds": Column("runtime", "duration"),
    "seconds_per_epoch": Column("s per epoch", "number"),
    "images_per_second": Column("images per s", "number"),
    "peak_memory_mb": Column("peak memory [MB]", "number"),
    "parameters": Column("parameters", "count"),
    "receptive_field": Column("receptive field [px]", "count"),
    "checkpoint_mb": Column("checkpoint [MB]", "number"),
}


def appendix(study: StudyView) -> Section:
    """All runs, the failures among them, and what could not be read."""
    section = Section("Appendix")
    section.parts.append(Section("All runs", [all_runs(study)], anchor="all_runs"))
    failed = failures(study)
    if failed.rows:
        section.parts.append(Section("Failures", [failed], anchor="failures"))
    if study.result.problems:
        section.parts.append(Section("Not read", [unread(study)], anchor="not_read"))
    machines = environments(study)
    if machines.rows:
        section.parts.append(Section("Environment", [machines], anchor="environment"))
    return section


def all_runs(study: StudyView) -> Table:
    """One row per run, each once, in the order of the phases."""
    runs = list(study.trials())
    known = [
        key
        for key in COSTS
        if any(trial.record is not None and key in trial.record.cost for _, _, trial in runs)
    ]
    columns = [
        Column("phase"),
        Column("overrides"),
        Column("seed", "count"),
        Column("status"),
        Column("objective", "number"),
        *(COSTS[key] for key in known),
        Column("directory"),
    ]
    common = study.plan.base
    text = f" All share: {shlex.join(common)}" if common else ""
    caption = f"Every run: what made it, what it scored and what it cost.{text}"
    table = Table("runs", caption, columns)
    for phase, candidate, trial in runs:
        words = [*phase.plan.base, *candidate.result.plan.overrides]
        last = {word.partition("=")[0]: word for word in words}  # of each key
        cost = trial.record.cost if trial.record is not None else {}
        state = run_status(study, phase, candidate, trial)
        table.add(
            phase.plan.name or "sweep",
            shlex.join(word for word in last.values() if word not in common),
            trial.seed,
            state,
            trial.value,
            *(cost.get(key) for key in known),
            trial_name_of(trial, study.result),
            mark="bad" if has_failed(study, phase, state) else "",
        )
    return table


def failures(study: StudyView) -> Table:
    """Candidates that were refused and runs that did not complete, with the reason."""
    columns = [Column("phase"), Column("configuration"), Column("status"), Column("reason")]
    table = Table("failures", "What did not complete, and why.", columns)
    phases = [*study.phases, *([study.test] if study.test else [])]
    for phase in phases:
        for one in phase.candidates:
            if one.result.plan.refused is not None:
                _add(table, phase, one.label, "refused", one.result.plan.refused)
            for trial in one.result.trials:
                state = run_status(study, phase, one, trial)
                if has_failed(study, phase, state):
                    error = trial.record.error if trial.record is not None else None
                    _add(table, phase, f"{one.label} seed={trial.seed}", state, error)
    return table


def _add(table: Table, phase: PhaseView, label: str, state: str, reason: str | None) -> None:
    table.add(phase.plan.name or "sweep", label, state, _first_line(reason), mark="bad")


def _first_line(reason: str | None) -> str:
    return (reason or "no reason recorded").strip().partition("\n")[0][:300]


def unread(study: StudyView) -> Table:
    """Directories that the report comes out without."""
    columns = [Column("file"), Column("reason")]
    table = Table("not_read", "This could not be read; the report goes without it.", columns)
    for problem in study.result.problems:
        table.add(problem.file, problem.reason, mark="bad")
    return table


def environments(study: StudyView) -> Table:
    """Versions and devices, one column per kind of machine."""
    found: list[dict[str, object]] = []
    for _, _, trial in study.trials():
        if trial.record is None or not trial.record.was_tried:
            continue
        if trial.record.environment not in found:
            found.append(trial.record.environment)
    columns = [Column(""), *(Column(f"environment {i}") for i in range(1, len(found[:4]) + 1))]
    text = "What the runs depended on besides their configuration."
    table = Table("environment", text, columns)
    for key in dict.fromkeys(key for one in found[:4] for key in one):
        table.add(key, *(one.get(key, "") for one in found[:4]))
    return table
