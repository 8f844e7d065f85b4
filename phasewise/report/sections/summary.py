"""The first page: what is best, how good it is, how to get it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phasewise.analysis.audit import Finding
from phasewise.analysis.statistics.frame import is_number
from phasewise.report.content import Bullets, Column, Command, Mark, Section, Table, Text
from phasewise.report.sections.audit import counted
from phasewise.report.sections.final import START, compared, final_blocks
from phasewise.report.sections.findings import top_findings
from phasewise.report.view import STOPPED, CandidateView, StudyView, trial_status
from phasewise.study.commands import single_run
from phasewise.study.results import UNSET, Setting, as_setting, settings_of
from phasewise.text import duration

NO_SETTINGS = ("study", "budget", "seed", "test")
"""Keys of overrides that are no part of a configuration."""


def facts(study: StudyView) -> list[tuple[str, str]]:
    """What stands below the title."""
    plan = study.plan
    states = [trial_status(trial, one) for _, one, trial in study.trials()]
    stopped = f", {states.count(STOPPED)} stopped by halving" if STOPPED in states else ""
    costs = [trial.record.cost for _, _, trial in study.trials() if trial.record is not None]
    seconds = [float(cost["seconds"]) for cost in costs if is_number(cost.get("seconds"))]
    goal = "highest" if plan.objective["mode"] == "max" else "lowest"
    return [
        ("task", plan.task),
        ("status", plan.status),
        ("objective", f"{plan.objective['metric']}, {goal} is best"),
        ("runs completed", f"{states.count('completed')} of {len(states)}{stopped}"),
        ("seeds", ", ".join(map(str, plan.seeds)) or "-"),
        ("budget", plan.budget),
        ("adopts", {"best": "any gain"}.get(plan.adopt, f"{plan.adopt} gains")),
        ("time of all runs", duration(sum(seconds))),
    ]


def summary_section(study: StudyView, audit: list[Finding]) -> Section:
    """Best configuration, its command, its scores, the top findings."""
    section = Section("Summary")
    final = study.final
    if study.plan.status != "completed":
        done = sum(phase.plan.status == "completed" for phase in study.phases)
        phases = f"{done} of {len(study.phases)} phases"
        text = f"Status of the study: {study.plan.status}; {phases} are decided."
        section.blocks.append(Text(text, "warning"))
    if study.result.problems:
        count = len(study.result.problems)
        text = f"{count} {'thing' if count == 1 else 'things'} could not be read: see the appendix."
        section.blocks.append(Text(text, "warning"))
    if final is None:
        section.blocks.append(Text("No configuration has a result yet."))
        return section
    section.blocks.append(Bullets(top_findings(study, audit)))
    if audit:
        section.blocks.append(Text(f"The audit: {counted(audit)}."))
    section.blocks += [*final_blocks(study), configuration(study, final)]
    record = next((r for r in final.records if r.status == "completed"), None)
    if record is not None:
        again = single_run(record.directory, record.overrides)
        section.blocks += [Text("This command trains it again:"), Command(again)]
    return section


def full_settings(candidate: CandidateView) -> dict[str, Any]:
    """All that a candidate's overrides set, those of its phase's start included."""
    return settings_of([*candidate.phase.plan.base, *candidate.result.plan.overrides])


def configuration(study: StudyView, final: CandidateView) -> Table:
    """The best configuration, key by key, beside the starting one."""
    best = full_settings(final)
    decided = {
        key: phase.plan.name or "sweep"
        for phase in study.phases
        if phase.winner is not None
        for key in phase.keys
    }
    columns = [Column("key"), Column("best"), Column("start"), Column("decided in")]
    caption = "The best configuration. Keys that are not listed have the defaults of conf/."
    table = Table("configuration", caption, columns)
    before = start_settings(study, list(best))
    for key, value in best.items():
        if key not in NO_SETTINGS:
            changed = key in decided and before[key] not in (UNSET, as_setting(value))
            mark: Mark = "best" if changed else ""
            table.add(key, value, before[key], decided.get(key, ""), mark=mark)
    return table


def start_settings(study: StudyView, keys: Sequence[str]) -> dict[str, Setting]:
    """What the starting configuration had."""
    start = compared(study).get(START)
    if start is None:
        base = settings_of(study.plan.base)
        return {key: as_setting(base.get(key, UNSET)) for key in keys}
    return {key: start.phase.result.setting(start.result, key) for key in keys}
