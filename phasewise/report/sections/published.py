"""What others have measured, beside what the study measured: columns and a section."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from phasewise.analysis.statistics.frame import is_number
from phasewise.report.content import Bullets, Column, Section, Table, Text
from phasewise.report.sections.data import data_sets, described
from phasewise.report.text import number
from phasewise.report.view import CandidateView, PhaseView, StudyView

LEAST_RANKED = 3
"""Values on both sides that a rank correlation needs to mean anything."""


def published_metrics(phase: PhaseView) -> list[str]:
    """Those of any candidate, in the order of the study's file; the objective's first."""
    found = dict.fromkeys(name for values in phase.published.values() for name in values)
    target = phase.metric.partition("/")[2]
    return sorted(found, key=lambda name: name != target)


def published_columns(phase: PhaseView) -> list[Column]:
    """Of each metric: what was published, and how far ours is from it."""
    columns = []
    for name in published_metrics(phase):
        columns += [
            Column(f"published {name}", "number"),
            Column(f"{name} less published", "signed"),
        ]
    return columns


def published_cells(phase: PhaseView, one: CandidateView) -> list[object]:
    """Of a candidate; ``None`` where nothing was published."""
    cells: list[object] = []
    for name in published_metrics(phase):
        theirs = phase.published_of(one).get(name)
        ours = ours_of(phase, one, name)
        known = theirs is not None and not math.isnan(ours)
        cells += [theirs, ours - theirs if known and theirs is not None else None]
    return cells


def ours_of(phase: PhaseView, one: CandidateView, name: str) -> float:
    """A metric on the phase's split at the best epoch, mean over seeds; NaN without one."""
    split, _, target = phase.metric.partition("/")
    if name == target:
        return one.mean
    scored = [trial.record for trial in one.result.trials if math.isfinite(trial.value)]
    found = [record.best.get(f"{split}/{name}") for record in scored if record is not None]
    values = [float(value) for value in found if value is not None and is_number(value)]
    return fmean(values) if values else math.nan


def published_section(study: StudyView) -> Section | None:
    """Whether the study came to the same; ``None`` without published values."""
    if not any(phase.published for phase in study.phases):
        return None
    section = Section("Beside what was published")
    text = study.plan.published_conditions
    section.blocks.append(Text(f"Published: {text or 'the study does not say how'}"))
    section.blocks += [Text("Here:"), Bullets([*_conditions(study)])]
    section.blocks += [table for table in [_agreement(study)] if table.rows]
    if missing := [*_not_here(study)]:
        section.blocks += [Text("Published, and not among the configurations here:")]
        section.blocks.append(Bullets(missing))
    return section


def _conditions(study: StudyView) -> Iterator[str]:
    """How ours was measured, as far as that is known."""
    sets = data_sets(study)
    if len(sets) == 1:
        yield from list(described(sets[0]))[:4]
    elif sets:
        yield f"{len(sets)} data sets, see there"
    phases = [phase for phase in study.phases if phase.published]
    runs = [record for phase in phases for one in phase.candidates for record in one.records]
    records = [record for record in runs if record.status == "completed"]
    epochs = [int(r.cost["epochs"]) for r in records if is_number(r.cost.get("epochs"))]
    if epochs:
        low, high = min(epochs), max(epochs)
        one = f"{low} epoch{'s' if low != 1 else ''}"
        yield one if low == high else f"{low} to {high} epochs"
    yield f"Budget: {study.plan.budget}"
    count = len(study.plan.seeds)
    yield f"{count} seed{'s' if count != 1 else ''}, figures of the best epoch on validation data"


def _agreement(study: StudyView) -> Table:
    """A row for each metric of a phase: the best there and here, and how alike the orders are."""
    columns = [
        Column("phase"),
        Column("metric"),
        Column("best published"),
        Column("value", "number"),
        Column("best here"),
        Column("its value", "number"),
        Column("rank here of the best published"),
        Column("rank correlation (Spearman)", "number"),
    ]
    caption = (
        "The best of what was published and the best here, among configurations with both values. "
        "A rank correlation of 1: the same order; it is not given for fewer than "
        f"{LEAST_RANKED}."
    )
    table = Table("published", caption, columns)
    for phase in study.phases:
        for name in published_metrics(phase):
            both = [
                (one, float(theirs), ours)
                for one in phase.candidates
                if (theirs := phase.published_of(one).get(name)) is not None
                and not math.isnan(ours := ours_of(phase, one, name))
            ]
            if not both:
                continue
            sign = -1.0 if _less_is_better(phase, name) else 1.0
            first = max(both, key=lambda it: sign * it[1])
            best = max(both, key=lambda it: sign * it[2])
            rank = 1 + sum(sign * ours > sign * first[2] for _, _, ours in both)
            table.add(
                phase.plan.name,
                name,
                first[0].label,
                first[1],
                best[0].label,
                best[2],
                f"{rank} of {len(both)}" if len(both) > 1 else "the only one",
                _correlation([theirs for _, theirs, _ in both], [ours for *_, ours in both]),
                mark="best" if rank == 1 and len(both) > 1 else "",
            )
    return table


def _less_is_better(phase: PhaseView, name: str) -> bool:
    if name == phase.metric.partition("/")[2]:
        return phase.mode == "min"
    return any(word in name for word in ("loss", "error"))


def _correlation(one: list[float], other: list[float]) -> float:
    if len(one) < LEAST_RANKED or len(set(one)) < 2 or len(set(other)) < 2:
        return math.nan
    from scipy import stats

    return float(stats.spearmanr(one, other).statistic)


def _not_here(study: StudyView) -> Iterator[str]:
    for phase in study.phases:
        for words, values in phase.published.items():
            if not any(values is phase.published_of(one) for one in phase.candidates):
                found = ", ".join(f"{name} {number(value)}" for name, value in values.items())
                yield f"{phase.title}: {words}: {found}"
