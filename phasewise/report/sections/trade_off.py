"""Over all phases: what the objective costs in the next headline metric."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from phasewise.analysis.statistics.frame import is_number
from phasewise.analysis.statistics.pareto import pareto_front, sign_of
from phasewise.report.content import Block, Column, Figure, Mark, Table
from phasewise.report.figures.front import trade_off
from phasewise.report.figures.scatter import Point
from phasewise.report.figures.style import PALETTE, PLAIN, Colours
from phasewise.report.sections.trials import headline
from phasewise.report.view import CandidateView, StudyView

LEAST = 3
"""Configurations that a front is looked for in."""


@dataclass(frozen=True)
class Scored:
    """A configuration with the means of both metrics over the seeds that have both."""

    one: CandidateView
    x: float
    y: float
    seeds: int


def trade_off_blocks(study: StudyView, colours: Colours) -> list[Block]:
    """A scatter with the Pareto front, and a table of what stands on it; none where there is no
    second metric, or too little to compare."""
    metric = study.plan.objective["metric"]
    second = second_metric(study)
    found = [*scored(study, second)] if second is not None else []
    if second is None or len(found) < LEAST or len({one.y for one in found}) < 2:
        return []
    signs = (1.0 if study.plan.objective["mode"] == "max" else -1.0, sign_of(second))
    front = pareto_front([(signs[0] * one.x, signs[1] * one.y) for one in found])
    inks, legend = _inks(study, found, colours)
    points = [Point(one.x, one.y, ink) for one, ink in zip(found, inks, strict=True)]
    better = {1.0: "more", -1.0: "less"}
    sense = f"of {metric} {better[signs[0]]} is better, of {second} {better[signs[1]]}"
    table = _table(study, [found[row] for row in front], metric, second, len(found))
    what = "one is best in both" if len(front) == 1 else f"{len(front)} are on the front"
    caption = (
        f"Trade-off of {metric} and {second}: all {len(found)} configurations that have both, at "
        f"their best epochs by {metric}, means over seeds ({sense}). No other configuration is "
        f"better in one metric without being worse in the other than those on the Pareto front: "
        f"{what}, numbered as in the table."
    )
    draw = partial(trade_off, points, front, (metric, second), signs, legend)
    return [Figure("trade_off", caption, draw), table]


def second_metric(study: StudyView) -> str | None:
    """The headline metric after the objective, of the first phase that has one."""
    metric = study.plan.objective["metric"]
    own = [phase for phase in study.phases if phase.metric == metric]
    named = (name for phase in own for name in headline(phase)[1:2])
    return next(named, None)


def scored(study: StudyView, second: str) -> Iterator[Scored]:
    """Each configuration once, though later phases compare it again."""
    seen: set[frozenset[object]] = set()
    for phase in study.phases:
        if phase.metric != study.plan.objective["metric"]:
            continue
        for one in phase.candidates:
            pairs = [
                (trial.directory, trial.value, float(trial.record.best[second]))
                for trial in one.result.trials
                if math.isfinite(trial.value)
                and trial.record is not None
                and is_number(trial.record.best.get(second))
            ]
            runs = frozenset(directory for directory, _, _ in pairs)
            if runs and runs not in seen:
                seen.add(runs)
                x, y = (fmean(values) for values in list(zip(*pairs, strict=True))[1:])
                yield Scored(one, x, y, len(pairs))


def _inks(
    study: StudyView, found: list[Scored], colours: Colours
) -> tuple[list[str], dict[str, str]]:
    """A colour per configuration: of its phase, or in a single phase of the value of its lead key;
    and the legend."""
    phases = list(dict.fromkeys(one.one.phase.number for one in found))
    if len(phases) > 1:
        of = {number: PALETTE[i % len(PALETTE)] for i, number in enumerate(phases)}
        titles = {phase.number: phase.title for phase in study.phases}
        legend = {titles[number]: ink for number, ink in of.items()} if len(of) < 8 else {}
        return [of[one.one.phase.number] for one in found], legend
    lead = found[0].one.phase.lead
    if lead is None:
        return [PLAIN] * len(found), {}
    inks = [colours.of(lead, one.one.settings[lead]) for one in found]
    values = found[0].one.phase.by_value(lead)
    few = len(values) <= len(PALETTE)
    return inks, {f"{lead}={value}": colours.of(lead, value) for value in values} if few else {}


def _table(study: StudyView, front: list[Scored], metric: str, second: str, count: int) -> Table:
    """The front with the settings that a phase swept, where they differ on it."""
    settings = [
        {key: one.one.phase.result.setting(one.one.result, key) for key in study.swept}
        for one in front
    ]
    keys = [
        key for key in study.swept if len({each[key] for each in settings}) > 1 or len(front) == 1
    ]
    columns = [
        Column("number", "count"),
        Column("phase"),
        *(Column(key) for key in keys),
        Column(metric, "number"),
        Column(second, "number"),
        Column("seeds", "count"),
    ]
    caption = (
        f"The Pareto front of {metric} and {second}: {len(front)} of {count} configurations, with "
        "the keys that differ among them; marked: the final one."
    )
    table = Table("trade_off", caption, columns)
    final = study.final
    for number, (one, own) in enumerate(zip(front, settings, strict=True), 1):
        runs = {trial.directory for trial in one.one.result.trials}
        chosen = final is not None and runs & {trial.directory for trial in final.result.trials}
        mark: Mark = "best" if chosen else ""
        name = one.one.phase.plan.name or "sweep"
        table.add(number, name, *(own[key] for key in keys), one.x, one.y, one.seeds, mark=mark)
    return table
