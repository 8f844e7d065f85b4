"""Each phase: all its trials, their curves, and what the best and the worst predicted."""

from __future__ import annotations

from functools import partial

from phasewise.report.content import Block, Figure, Picture, Section, Text
from phasewise.report.figures.curves import MOST, Curve, draw_curves
from phasewise.report.figures.style import FAINT, LINES, Colours, handle, thinned
from phasewise.report.sections.levels import levels_section
from phasewise.report.sections.significance import significance_section
from phasewise.report.sections.training import training_section
from phasewise.report.sections.trials import VERDICTS, trials_table
from phasewise.report.sections.values import values_section
from phasewise.report.text import listed, number
from phasewise.report.view import PhaseView, StudyView, short_key

MOST_NAMED = 14
"""Values in the legend of curves."""

PICTURES = 2
"""Of each of the two trials."""


def phase_section(study: StudyView, phase: PhaseView, colours: Colours) -> Section:
    """One phase."""
    section = Section(phase.title)
    section.blocks += [_verdict(phase), trials_table(phase)]
    if phase.plan.sampled_from is not None:
        count = f"{len(phase.candidates)} of {phase.plan.sampled_from}"
        text = f"{count} configurations, drawn at random."
        section.blocks.append(Text(text, "note"))
    if phase.plan.epochs_saved:
        text = f"Successive halving saved {phase.plan.epochs_saved} epochs."
        section.blocks.append(Text(text, "note"))
    found = curves_figure(phase, colours)
    if found is not None:
        section.blocks.append(found)
    section.blocks += pictures(phase)
    frame = study.frame_of(phase)
    parts = [
        values_section(phase, frame, colours),
        levels_section(phase, frame, colours),
        training_section(phase, frame, colours),
        significance_section(phase, frame),
    ]
    section.parts += [part for part in parts if part is not None]
    return section


def _verdict(phase: PhaseView) -> Text:
    plan = phase.plan
    swept = f"Compared: {listed(phase.keys)}. " if phase.keys else ""
    if plan.verdict is None:
        return Text(f"{swept}Not decided yet.", "warning")
    winner = f" {phase.winner.label}" if phase.winner is not None else ""
    reason = f" ({plan.reason})" if plan.reason else ""
    return Text(f"{swept}Verdict: {VERDICTS[plan.verdict]}{winner}{reason}.")


def quantities(phase: PhaseView) -> list[str]:
    """What curves are drawn of: losses of both splits, the objective and its twin in training."""
    _, _, split = phase.metric.partition("/")
    wanted = ["train/loss", "val/loss", f"train/{split}", phase.metric]
    known = {
        key
        for one in phase.candidates
        for trial in one.result.trials
        for row in trial.history()
        for key in row
    }
    return [key for key in dict.fromkeys(wanted) if key in known]


def curves_figure(phase: PhaseView, colours: Colours) -> Figure | None:
    """All trials over each other; ``None`` without any epoch."""
    shown = quantities(phase)
    if not shown:
        return None
    lead = phase.lead
    second = next(
        (k for k in phase.keys if k != lead and 1 < len(phase.by_value(k)) <= len(LINES)), None
    )
    lines = dict(zip(phase.by_value(second), LINES, strict=False)) if second else {}
    ends = phase.comparable if len(phase.comparable) > 1 else phase.comparable * 2
    best, worst = (ends[0].best_trial, ends[-1].best_trial) if ends else (None, None)
    found = []
    for one in phase.candidates:
        for trial in one.result.trials:
            record = trial.record
            found.append(
                Curve(
                    trial.history(),
                    colours.of(lead, one.settings[lead]) if lead else FAINT,
                    lines.get(one.settings[second], "-") if second else "-",
                    "best" if trial is best else "worst" if trial is worst else "",
                    record.objective["epoch"] if record is not None else None,
                )
            )
    legend = []
    if lead:
        named = {f"{short_key(lead)}={v}": colours.of(lead, v) for v in phase.by_value(lead)}
        legend += thinned([handle(colour, name) for name, colour in named.items()], MOST_NAMED)
    if second:
        legend += [handle(FAINT, f"{short_key(second)}={v}", ls=line) for v, line in lines.items()]
    return Figure(
        f"curves_{phase.slug}",
        _caption(phase, len(found), lead, second),
        partial(draw_curves, found, shown, legend),
    )


def _caption(phase: PhaseView, count: int, lead: str | None, second: str | None) -> str:
    said = [f"Learning curves of {phase.title}"]
    if count > MOST:
        said.append(
            f"{count} runs are too many to tell apart: the best and the worst are drawn, "
            "and median and 10-90 % of all"
        )
    else:
        said.append(f"all {count} runs over each other" if count > 1 else "its one run")
        if lead:
            said.append(f"colour: {lead}" + (f", line: {second}" if second else ""))
    if len(phase.comparable) > 1:
        best, worst = phase.comparable[0].label, phase.comparable[-1].label
        said.append(f"best: {best}, worst: {worst}")
    return "; ".join(said) + "."


def pictures(phase: PhaseView) -> list[Block]:
    """Predictions of the best and the worst trial, as their runs drew them."""
    if not phase.comparable:
        return []
    ends = {"best": phase.comparable[0], "worst": phase.comparable[-1]}
    if ends["best"] is ends["worst"]:
        del ends["worst"]
    found: list[Block] = []
    for role, one in ends.items():
        trial = one.best_trial
        if trial is None:
            continue
        folder = trial.directory / "figures"
        for name in ("best", "worst")[:PICTURES]:
            path = folder / f"{name}.png"
            if path.is_file():
                caption = (
                    f"{phase.title}, {role} trial ({one.label}, {phase.metric} "
                    f"{number(trial.value)}): its {name} validation images."
                )
                found.append(Picture(f"predictions_{phase.slug}_{role}_{name}", caption, path))
    return found
