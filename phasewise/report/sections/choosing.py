"""Within a phase: how several objectives and constraints chose, and what they kept from winning."""

from __future__ import annotations

from functools import partial
from statistics import fmean

from phasewise.report.content import Block, Bullets, Figure, Text
from phasewise.report.figures.front import trade_off
from phasewise.report.figures.scatter import Point
from phasewise.report.figures.style import PALETTE, PLAIN
from phasewise.report.view import CandidateView, PhaseView
from phasewise.study.objectives import PARETO, measured, way_of

LEAST = 3
"""Configurations that a front is drawn of."""

LISTED = 12
"""Configurations that are named with what keeps them from winning; the table has all."""


def choosing_blocks(phase: PhaseView) -> list[Block]:
    """None where one objective decides and nothing is required."""
    plan = phase.plan
    found: list[Block] = []
    if plan.choose:
        text = (
            f"Chosen by {way_of(plan)}: means over seeds, of each run at its best epoch by "
            f"{phase.metric}."
        )
        found.append(Text(text))
    if plan.require:
        text = f"Required, of the mean over seeds: {'; '.join(plan.require)}."
        found.append(Text(text))
    barred = [one for one in phase.candidates if one.is_barred]
    if barred:
        lines = [f"{one.label} {_reason(one)}" for one in barred[:LISTED]]
        more = len(barred) - len(lines)
        found.append(Bullets([*lines, *([f"{more} more, see the table"] if more else [])]))
    if PARETO in plan.choose:
        found += _front(phase)
    return found


def _reason(one: CandidateView) -> str:
    plan = one.result.plan
    if plan.infeasible:
        return f"is infeasible: {', '.join(plan.infeasible)}"
    return f"falls too far: {', '.join(plan.fallen)}"


def _front(phase: PhaseView) -> list[Block]:
    """The first two objectives of all configurations, with the front and its knee."""
    goals = phase.plan.objectives[:2]
    names = goals[0]["metric"], goals[1]["metric"]
    signs = [1.0 if one["mode"] == "max" else -1.0 for one in goals]
    places: dict[int, tuple[float, float]] = {}
    for one in (one for one in phase.candidates if not one.is_barred):
        records = {trial.seed: trial.record for trial in one.result.trials if trial.record}
        values = measured(phase.plan, records)
        if all(values[name] for name in names):
            x, y = (fmean(values[name].values()) for name in names)
            places[one.index] = x, y
    if len(places) < LEAST:
        return []
    rows = [*places]
    inks = {row: PALETTE[1] if row == phase.plan.winner else PLAIN for row in rows}
    points = [Point(*places[row], inks[row]) for row in rows]
    front = [rows.index(row) for row in phase.plan.front if row in places]
    front.sort(key=lambda at: (-signs[0] * points[at].x, signs[1] * points[at].y))
    legend = {"adopted" if phase.plan.verdict == "adopted" else "kept": PALETTE[1]}
    pairs = zip(names, signs, strict=True)
    sense = [f"of {name} {'more' if sign > 0 else 'less'}" for name, sign in pairs]
    others = len(phase.plan.objectives) - 2
    caption = (
        f"{phase.title}: {names[0]} and {names[1]} of {len(points)} configurations, means over "
        f"seeds ({' and '.join(sense)} is better). The knee is the point of the Pareto front that "
        "lies farthest from the line through its ends, both scaled to the front's range (Das "
        f"1999); where several lie as far out, the incumbent stays. Numbers: by {names[0]}."
    )
    caption += f" The front is that of {others + 2} objectives." if others else ""
    draw = partial(trade_off, points, front, names, (signs[0], signs[1]), legend)
    return [Figure(f"front_{phase.slug}", caption, draw)]
