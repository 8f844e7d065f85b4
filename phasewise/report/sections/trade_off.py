"""Over all phases: what the objective costs in another headline metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from phasewise.analysis.statistics.frame import is_number
from phasewise.analysis.statistics.pareto import pareto_front
from phasewise.report.content import Block, Column, Figure, Mark, Table, Text
from phasewise.report.figures.front import trade_off
from phasewise.report.figures.scatter import Point
from phasewise.report.figures.style import PALETTE, PLAIN, Colours
from phasewise.report.sections.trials import headline
from phasewise.report.text import listed
from phasewise.report.view import CandidateView, StudyView
from phasewise.study.measures import is_lower_better

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
    """A scatter with the Pareto front, and a table of what stands on it, for the first headline
    metric that ranks runs in another way than the objective; none where there is no other metric,
    or too little to compare."""
    metric, names = study.plan.objective["metric"], other_metrics(study)
    second = next((name for name in names if not ranks_alike(study, name)), None)
    found = scored(study, second or names[0]) if names else []
    if len(found) < LEAST:
        return []
    if second is None:
        text = f"No trade-off: of all runs, the better one in {metric} is the better one in "
        return [Text(f"{text}{listed(names)} too.", "note")]
    signs = _signs(study, second)
    front = pareto_front([(signs[0] * one.x, signs[1] * one.y) for one in found])
    inks, legend = _inks(study, found, colours)
    points = [Point(one.x, one.y, ink) for one, ink in zip(found, inks, strict=True)]
    better = {1.0: "more", -1.0: "less"}
    sense = f"of {metric} {better[signs[0]]} is better, of {second} {better[signs[1]]}"
    if signs[0] == signs[1]:
        sense = f"of both, {better[signs[0]]} is better"
    table = _table(study, [found[row] for row in front], metric, second, len(found))
    what = "one is best in both" if len(front) == 1 else f"{len(front)} are on the front"
    caption = (
        f"Trade-off of {metric} and {second}: all {len(found)} {_which(study)} that have both, at "
        f"their best epochs by {metric}, means over seeds ({sense}). The Pareto front holds those "
        f"that no other one beats in one metric without being behind in the other: {what}, "
        "numbered as in the table."
    )
    draw = partial(trade_off, points, front, (metric, second), signs, legend)
    return [Figure("trade_off", caption, draw), table]


def _which(study: StudyView) -> str:
    """What is drawn, as a caption says it."""
    required = any(phase.plan.require for phase in study.phases)
    return "feasible configurations" if required else "configurations"


def other_metrics(study: StudyView) -> list[str]:
    """The headline metrics after the objective, of the first phase that has any; those that are
    objectives too come first."""
    metric = study.plan.objective["metric"]
    named = (headline(phase)[1:] for phase in study.phases if phase.metric == metric)
    return next((names for names in named if names), [])


def ranks_alike(study: StudyView, second: str) -> bool:
    """Whether all runs are ranked by another metric as they are by the objective, as by one that is
    a function of it: Dice is one of Jaccard."""
    signs = _signs(study, second)
    pairs = {
        (signs[0] * x, signs[1] * y)
        for phase in study.phases
        for one in phase.candidates
        for _, x, y in runs_of(one, second)
        if phase.metric == study.plan.objective["metric"]
    }
    others = [y for _, y in sorted(pairs)]
    return others == sorted(others)


def runs_of(one: CandidateView, second: str) -> list[tuple[Path, float, float]]:
    """The runs of a configuration that have both metrics, with these."""
    return [
        (trial.directory, trial.value, float(trial.record.best[second]))
        for trial in one.result.trials
        if math.isfinite(trial.value)
        and trial.record is not None
        and is_number(trial.record.best.get(second))
    ]


def _signs(study: StudyView, second: str) -> tuple[float, float]:
    stated = {one["metric"]: one["mode"] for phase in study.phases for one in phase.plan.objectives}
    lower = stated[second] == "min" if second in stated else is_lower_better(second)
    return 1.0 if study.plan.objective["mode"] == "max" else -1.0, -1.0 if lower else 1.0


def scored(study: StudyView, second: str) -> list[Scored]:
    """Each feasible configuration once, with the phase that first compared it: of one that later
    phases ran with more seeds, the means over all of them."""
    found: list[Scored] = []
    places: dict[Path, int] = {}
    for phase in study.phases:
        if phase.metric != study.plan.objective["metric"]:
            continue
        for one in phase.candidates:
            pairs = runs_of(one, second)
            if not pairs or one.result.plan.infeasible:
                continue
            x, y = fmean(x for _, x, _ in pairs), fmean(y for _, _, y in pairs)
            known = next((places[run] for run, _, _ in pairs if run in places), None)
            if known is None:
                known = len(found)
                found.append(Scored(one, x, y, len(pairs)))
            elif len(pairs) > found[known].seeds:
                found[known] = Scored(found[known].one, x, y, len(pairs))
            places.update((run, known) for run, _, _ in pairs)
    return found


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
    shown = "the keys that phases swept" if len(front) == 1 else "the keys that differ among them"
    caption = (
        f"The Pareto front of {metric} and {second}: {len(front)} of {count} configurations, with "
        f"{shown}; "
    )
    table = Table("trade_off", caption, columns)
    final = study.final
    for number, (one, own) in enumerate(zip(front, settings, strict=True), 1):
        runs = {trial.directory for trial in one.one.result.trials}
        chosen = final is not None and runs & {trial.directory for trial in final.result.trials}
        mark: Mark = "best" if chosen else ""
        name = one.one.phase.plan.name or "sweep"
        table.add(number, name, *(own[key] for key in keys), one.x, one.y, one.seeds, mark=mark)
    marked = "best" in table.marks
    table.caption += "marked: the final one." if marked else "the final one is not among them."
    return table
