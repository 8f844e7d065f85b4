"""The first page: what is best, how good it is, how to get it again."""

from __future__ import annotations

from phasewise.analysis.audit import Finding
from phasewise.analysis.statistics.frame import is_number
from phasewise.report.content import Block, Bullets, Section, Text
from phasewise.report.sections.audit import counted
from phasewise.report.sections.final import final_blocks
from phasewise.report.sections.findings import top_findings
from phasewise.report.sections.recommendations import recommendations
from phasewise.report.text import listed
from phasewise.report.view import STOPPED, CandidateView, StudyView, trial_status
from phasewise.study.objectives import way_of
from phasewise.text import duration


def facts(study: StudyView) -> list[tuple[str, str]]:
    """What stands below the title."""
    plan = study.plan
    states = [trial_status(trial, one) for _, one, trial in study.trials()]
    stopped = f", {states.count(STOPPED)} stopped by halving" if STOPPED in states else ""
    seconds, epochs = _numbers(study, "seconds"), _numbers(study, "epochs")
    records = [trial.record for _, _, trial in study.trials() if trial.record is not None]
    named = [record.environment.get("device") for record in records]
    devices = dict.fromkeys(str(device) for device in named if device)
    known = [
        ("task", plan.task),
        ("status", plan.status),
        *_goals(study),
        ("runs completed", f"{states.count('completed')} of {len(states)}{stopped}"),
        ("seeds", _seeds(study)),
        ("budget", plan.budget),
        ("adopts", {"best": "any gain"}.get(plan.adopt, f"{plan.adopt} gains")),
        ("time of all runs", duration(sum(seconds))),
        ("epochs of all runs", f"{sum(epochs):,.0f}" if epochs else "-"),
        ("final network", _size(study.final)),
        ("device", ", ".join(devices) or "-"),
    ]
    return [(name, value) for name, value in known if value != "-"]


def _goals(study: StudyView) -> list[tuple[str, str]]:
    """The objective; or several, and how they choose; and what is required."""
    several = next((phase.plan for phase in study.phases if phase.plan.objectives), None)
    goals = several.objectives if several is not None else [study.plan.objective]
    best = {"max": "highest", "min": "lowest"}
    texts = [f"{one['metric']}, {best[one['mode']]} is best" for one in goals]
    found = [("objective" if len(goals) == 1 else "objectives", "; ".join(texts))]
    if several is not None:
        found.append(("chosen by", way_of(several)))
    phases = [phase.plan.require for phase in study.phases]
    common = [text for text in phases[0] if all(text in own for own in phases)] if phases else []
    return [*found, *([("required", "; ".join(common))] if common else [])]


def _seeds(study: StudyView) -> str:
    """Those of the study, and the phases that had others."""
    found: dict[str, list[str]] = {", ".join(map(str, study.plan.seeds)) or "-": []}
    for phase in study.phases:
        found.setdefault(", ".join(map(str, phase.plan.seeds)), []).append(phase.plan.name)
    first, *others = found
    return "; ".join([first, *(f"{seeds} in {listed(found[seeds])}" for seeds in others)])


def _numbers(study: StudyView, key: str) -> list[float]:
    """Of the costs of all runs that have it."""
    records = [trial.record for _, _, trial in study.trials() if trial.record is not None]
    return [float(r.cost[key]) for r in records if is_number(r.cost.get(key))]


def _size(final: CandidateView | None) -> str:
    """How many parameters it has, and how many of these were trained where that is known."""
    costs = [record.cost for record in final.records] if final is not None else []
    cost = next((it for it in costs if is_number(it.get("parameters"))), None)
    if cost is None:
        return "-"
    text, trained = f"{cost['parameters']:,} parameters", cost.get("trained_parameters")
    if not is_number(trained) or trained == cost["parameters"]:
        return text + (", all trained" if is_number(trained) else "")
    return f"{text}, {trained:,} trained"


def _test_to_come(study: StudyView) -> list[Block]:
    """That the final configuration is being tested, and what stands here meanwhile."""
    test, final = study.test, study.final
    if test is None or final is None or not test.candidates:
        return []
    runs = [trial for one in test.candidates for trial in one.result.trials]
    done = sum(trial.record is not None and trial.record.status == "completed" for trial in runs)
    if done == len(runs):
        return []
    state = {"running": "is running", "pending": "has not begun"}.get(test.plan.status, "has ended")
    text = f"The test {state}: {done} of {len(runs)} runs have completed."
    if final.phase is not test:
        text += " Until then the figures of the chosen configuration are those on validation data."
    return [Text(text, "warning")]


def summary_section(study: StudyView, audit: list[Finding]) -> Section:
    """Best configuration, its command, its scores, the top findings."""
    section = Section("Summary")
    final = study.final
    if study.plan.status != "completed":
        done = sum(phase.plan.status == "completed" for phase in study.phases)
        phases = f"{done} of {len(study.phases)} phases"
        text = f"Status of the study: {study.plan.status}; {phases} are decided."
        section.blocks.append(Text(text, "warning"))
        section.blocks += _test_to_come(study)
    if study.result.problems:
        count = len(study.result.problems)
        text = f"{count} {'thing' if count == 1 else 'things'} could not be read: see the appendix."
        section.blocks.append(Text(text, "warning"))
    if final is None:
        section.blocks.append(Text("No configuration has a result yet."))
        return section
    findings = top_findings(study, audit)
    section.blocks.append(Bullets(findings))
    if audit and not any(counted(audit) in one for one in findings):
        section.blocks.append(Text(f"The audit: {counted(audit)}."))
    section.blocks += final_blocks(study)
    if (table := recommendations(study)) is not None:
        section.blocks.append(table)
    return section
