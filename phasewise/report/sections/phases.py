"""Each phase: all its trials, their curves, and what the best and the worst predicted."""

from __future__ import annotations

from phasewise.report.content import Block, Picture, Section, Text
from phasewise.report.figures.style import Colours
from phasewise.report.sections.choosing import choosing_blocks
from phasewise.report.sections.curves import curves_figure
from phasewise.report.sections.halving import halving_section
from phasewise.report.sections.levels import levels_section
from phasewise.report.sections.search import search_section
from phasewise.report.sections.significance import significance_section
from phasewise.report.sections.steps import steps_figure
from phasewise.report.sections.training import training_section
from phasewise.report.sections.tree import started_from
from phasewise.report.sections.trials import VERDICTS, trials_table
from phasewise.report.sections.values import values_section
from phasewise.report.text import listed, number
from phasewise.report.view import PhaseView, StudyView

PICTURES = 2
"""Of each of the two trials."""


def phase_section(study: StudyView, phase: PhaseView, colours: Colours) -> Section:
    """One phase."""
    section = Section(phase.title)
    if phase.plan.why:
        section.blocks.append(Text(f"Why it was run: {phase.plan.why}."))
    section.blocks += [*started_from(study, phase), _verdict(phase), *choosing_blocks(phase)]
    section.blocks += [*_tied(phase), trials_table(phase)]
    if phase.plan.sampled_from is not None:
        count = sum(bool(one.result.plan.overrides) for one in phase.candidates)
        beside = ", and the incumbent" if count < len(phase.candidates) else ""
        text = f"{count} of {phase.plan.sampled_from} configurations, drawn at random{beside}."
        section.blocks.append(Text(text, "note"))
    if phase.plan.epochs_saved and phase.plan.halving is None:  # an older version's
        text = f"Successive halving saved {phase.plan.epochs_saved} epochs."
        section.blocks.append(Text(text, "note"))
    if phase.plan.out_of_hours is not None:
        left = len(phase.plan.out_of_hours.left)
        text = f"{left} trials were not run: {phase.plan.out_of_hours}."
        section.blocks.append(Text(text, "warning"))
    drawn = (curves_figure(phase, colours), steps_figure(phase, colours))
    section.blocks += [figure for figure in drawn if figure is not None]
    section.blocks += pictures(phase)
    frame = study.frame_of(phase)
    searched = phase.plan.search is not None  # hardly any value twice
    parts = [
        halving_section(phase),
        search_section(phase),
        None if searched else values_section(phase, frame, colours),
        None if searched else levels_section(phase, frame, colours),
        training_section(phase, frame, colours),
        significance_section(phase, frame),
    ]
    section.parts += [part for part in parts if part is not None]
    return section


def _verdict(phase: PhaseView) -> Text:
    plan = phase.plan
    if len(phase.candidates) == 1:
        return Text("One configuration: nothing is compared.")
    swept = f"Compared: {listed(phase.keys)}. " if phase.keys else ""
    if plan.verdict is None:
        return Text(f"{swept}Not decided yet.", "warning")
    winner = f" {phase.winner.label}" if phase.winner is not None else ""
    reason = f" ({plan.reason})" if plan.reason else ""
    return Text(f"{swept}Verdict: {VERDICTS[plan.verdict]}{winner}{reason}.")


def _tied(phase: PhaseView) -> list[Text]:
    """Which keys do not vary by themselves."""
    groups: dict[str, list[str]] = {}
    for key, other in phase.tied.items():
        groups.setdefault(other, []).append(key)
    return [
        Text(
            f"Together with {other} {'changes' if len(keys) == 1 else 'change'} {listed(keys)}: "
            f"nothing tells what each of them does. What follows of {other} is of all of them.",
            "note",
        )
        for other, keys in groups.items()
    ]


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
