"""The first page: what is best, how good it is, how to get it again."""

from __future__ import annotations

from phasewise.analysis.audit import Finding
from phasewise.analysis.statistics.frame import is_number
from phasewise.report.content import Bullets, Section, Text
from phasewise.report.sections.audit import counted
from phasewise.report.sections.final import final_blocks
from phasewise.report.sections.findings import top_findings
from phasewise.report.view import STOPPED, StudyView, trial_status
from phasewise.text import duration


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
    section.blocks += final_blocks(study)
    return section
