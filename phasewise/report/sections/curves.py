"""Of each phase: learning curves of all its configurations."""

from __future__ import annotations

from functools import partial
from typing import Literal

from matplotlib.lines import Line2D

from phasewise.analysis.statistics.losses import incomparable
from phasewise.records.history import Row
from phasewise.report.content import Figure
from phasewise.report.figures.curves import FEW, MOST, Curve, Panel, draw_curves
from phasewise.report.figures.labels import distinct
from phasewise.report.figures.style import FAINT, Colours, handle, thinned
from phasewise.report.text import plain
from phasewise.report.view import CandidateView, PhaseView, short_key

MOST_NAMED = 14
"""Values in the legend of curves, and at the ends of lines."""

NAME = 18
"""Characters of a name at the end of a line; of one in the legend."""
ENTRY = 60

SPLITS = ("train", "val")

MARKERS = ("o", "s", "^", "D", "P")
"""Of a second key's values; as in the scatter plots, but for the ones that mark the worst."""


def panels(phase: PhaseView) -> list[Panel]:
    """What curves are drawn of: the loss and the objectives, the other headline metrics as far as
    they were measured on training data too, and the terms of the loss."""
    runs = [trial for one in phase.candidates for trial in one.result.trials]
    known = {key for trial in runs for row in trial.history() for key in row}
    split, _, objective = phase.metric.partition("/")
    if split not in SPLITS:
        objective = phase.metric
    records = [record for one in phase.candidates for record in one.records]
    headline = [name for record in records for name in record.headline]
    names = dict.fromkeys(["loss", objective])
    goals = [goal["metric"].removeprefix(f"{split}/") for goal in phase.plan.objectives]
    names |= dict.fromkeys(goals)
    names |= dict.fromkeys(name for name in headline if f"train/{name}" in known)
    terms = {"/".join(key.split("/")[1:]) for key in known if key.split("/")[1:2] == ["loss"]}
    names |= dict.fromkeys(sorted(terms))
    found = []
    for name in names:
        train, val = (f"{side}/{name}" if f"{side}/{name}" in known else None for side in SPLITS)
        if name == phase.metric and name in known:
            val = name
        if train or val:
            found.append(Panel(name, train, val, labelled=name == objective))
    return found


def curves_figure(phase: PhaseView, colours: Colours) -> Figure | None:
    """All configurations over each other; ``None`` without any epoch."""
    shown = panels(phase)
    if not shown:
        return None
    lead, second = phase.lead, marked_key(phase)
    values = list(phase.by_value(lead)) if lead else []
    written = list(map(plain, values))
    few = 1 < len(values) <= MOST_NAMED
    names = dict(zip(values, distinct(written, NAME), strict=True)) if few else {}
    markers = dict(zip(phase.by_value(second), MARKERS, strict=False)) if second else {}
    found = []
    for one in phase.candidates:
        colour = colours.of(lead, one.settings[lead]) if lead else FAINT
        name = names.get(one.settings[lead], "") if lead else ""
        marker = markers.get(one.settings[second], "") if second else ""
        if lead and not second:
            marker = colours.marker(lead, one.settings[lead])
        role, starred = _role(phase, one)
        runs = [rows for trial in one.result.trials if (rows := trial.history())]
        found.append(Curve(runs, colour, name, marker, role, starred))
    legend: list[Line2D] = []
    if lead:
        entries = distinct([f"{short_key(lead)}={text}" for text in written], ENTRY)
        lines = [
            handle(
                colours.of(lead, value),
                entry,
                most=ENTRY,
                marker="" if second else colours.marker(lead, value),
            )
            for value, entry in zip(values, entries, strict=True)
        ]
        legend += thinned(lines, MOST_NAMED)
    if second:
        entries = distinct([f"{short_key(second)}={plain(value)}" for value in markers], ENTRY)
        legend += [
            handle(FAINT, entry, most=ENTRY, ls="", marker=marker)
            for entry, marker in zip(entries, markers.values(), strict=True)
        ]
    return Figure(
        f"curves_{phase.slug}",
        _caption(phase, shown, second),
        partial(draw_curves, found, shown, legend),
    )


def marked_key(phase: PhaseView) -> str | None:
    """Another key than the one that colours stand for, with few values."""
    others = [key for key in phase.own_keys if key != phase.lead]
    return next((k for k in others if 1 < len(phase.by_value(k)) <= len(MARKERS)), None)


def _role(phase: PhaseView, one: CandidateView) -> tuple[Literal["", "best", "worst"], Row | None]:
    """Whether it is the best or the worst, and the best epoch of its best run then."""
    if not phase.comparable or one not in (phase.comparable[0], phase.comparable[-1]):
        return "", None
    trial = one.best_trial
    epoch = trial.record.objective["epoch"] if trial is not None and trial.record else None
    rows = trial.history() if trial is not None else []
    starred = next((row for row in rows if row["epoch"] == epoch), None)
    return "best" if one is phase.comparable[0] else "worst", starred


def _caption(phase: PhaseView, shown: list[Panel], second: str | None) -> str:
    count = len(phase.candidates)
    runs = sum(len(one.result.trials) for one in phase.candidates)
    said = [f"Learning curves of {phase.title}"]
    if count > MOST:
        said.append(
            f"{count} configurations are too many to tell apart: the best and the worst are drawn, "
            "and median and 10-90 % of all"
        )
    else:
        all_of = "both" if count == 2 else f"all {count}"
        said.append(
            f"{all_of} configurations over each other" if count > 1 else "its one configuration"
        )
        if phase.lead:
            said.append(f"colour: {phase.lead}" + (f", marker: {second}" if second else ""))
    if runs > count:
        of = "" if count <= FEW else " of the best and the worst"
        said.append(f"lines: mean over seeds, bands{of}: from the least to the greatest")
    if any(len(panel.sides) == 2 for panel in shown):
        said.append("solid: validation, dashed: training")
    if len(phase.comparable) > 1:
        best, worst = phase.comparable[0].label, phase.comparable[-1].label
        said.append(f"best: {best}, worst: {worst}")
    records = [record for one in phase.candidates for record in one.records]
    if reason := incomparable(phase.keys, records):
        said.append(f"losses of different values cannot be compared ({reason})")
    return "; ".join(said) + "."
