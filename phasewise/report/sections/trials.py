"""The table of a phase: what each configuration scored, how it trained, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean, stdev
from typing import Any

from phasewise.analysis.statistics.frame import is_number
from phasewise.records.record import RunRecord
from phasewise.report.comparable import incomparable_losses
from phasewise.report.content import Column, Mark, Table
from phasewise.report.sections.published import published_cells, published_columns
from phasewise.report.view import CandidateView, PhaseView
from phasewise.study.objectives import WEIGHTED

VERDICTS = {
    "adopted": "adopted",
    "kept": "kept",
    "within_noise": "within noise",
    "undecided": "undecided",
}
LOSSES = ("train/loss", "val/loss")
MOST_GUESSED = 6
"""Metrics shown of records that name none to show."""

Read = Callable[[RunRecord], Any]


def trials_table(phase: PhaseView) -> Table:
    """All candidates, best first, then those without a result.

    Every number but the runtime is of the runs that have a score: theirs, or the mean over seeds.
    """
    several = len(phase.plan.seeds) > 1
    unusual = any(one.status != "completed" for one in phase.candidates)
    names = headline(phase)
    shown = [*names, *(name for name in LOSSES if name not in names and _has(phase, name))]
    columns = [
        *(Column(key) for key in phase.keys),
        *(Column(name, "spread" if several and name in names else "number") for name in shown),
        *([Column(WEIGHTED, "number")] if WEIGHTED in phase.plan.choose else []),
        *([Column("seeds")] if several else []),
        *_difference_columns(phase, names),
        *published_columns(phase),
        Column("best epoch", "count"),
        Column("epochs", "count"),
        Column("at the last epoch", "number"),
        Column("drop", "number"),
        Column("runtime", "duration"),
        *([Column("status")] if unusual else []),
        Column("verdict"),
    ]
    table = Table(f"phase_{phase.slug}", _caption(phase, several), columns)
    rest = [one for one in phase.candidates if not one.values]
    for one in [*phase.ranked, *rest]:
        cells = _row(phase, one, names, shown, several)
        cells += [one.status] if unusual else []
        table.add(*cells, _verdict(phase, one), mark=_mark(phase, one))
    table.drop_empty(*(column.title for column in published_columns(phase)))
    return table


def headline(phase: PhaseView) -> list[str]:
    """The objectives and the other metrics that its runs name, each of the objective's split.

    Where no record names any, as older ones: the first of that split that are of no single class
    and no loss.
    """
    split = phase.metric.partition("/")[0]
    records = [record for one in phase.candidates for record in _scored(one)]
    named = [f"{split}/{name}" for record in records for name in record.headline]
    if not named:
        known = sorted({name for record in records for name in record.best})
        named = [name for name in known if name.count("/") == 1 and name.startswith(f"{split}/")]
        named = [name for name in named if name not in (*LOSSES, phase.metric)][: MOST_GUESSED - 1]
    named = [*(one["metric"] for one in phase.plan.objectives), *named]
    rest = [name for name in dict.fromkeys(named) if name != phase.metric and _has(phase, name)]
    return [phase.metric, *rest]


def _difference_columns(phase: PhaseView, names: list[str]) -> list[Column]:
    if not _compares(phase):
        return []
    found = [Column("difference", "signed"), Column("difference in %", "percent")]
    for name in names[1:2]:
        found += [
            Column(f"difference, {name}", "signed"),
            Column(f"difference in %, {name}", "percent"),
        ]
    return found


def _caption(phase: PhaseView, several: bool) -> str:
    seeds = ", mean (± std) over seeds" if several else ""
    against = "differences are to the incumbent" if phase.incumbent else "there is no incumbent"
    against = f", best first; {against}" if _compares(phase) or not phase.incumbent else ""
    reason = incomparable_losses(phase)
    losses = f" Losses do not compare between the rows: {reason}." if reason else ""
    what = "All configurations" if len(phase.candidates) > 1 else "The configuration"
    return (
        f"{what} of {phase.title}: metrics and losses at the best epoch by {phase.metric}{seeds}"
        f"{against}; drop: how much worse {phase.metric} is at the last epoch than at the best one."
        f"{losses}"
    )


def _compares(phase: PhaseView) -> bool:
    """Whether there is something beside the incumbent."""
    return phase.incumbent is not None and len(phase.candidates) > 1


def _row(
    phase: PhaseView, one: CandidateView, names: list[str], shown: list[str], several: bool
) -> list[object]:
    def mean(read: Read) -> float:
        return _mean(_numbers(one, read))

    cells: list[object] = [one.settings[key] for key in phase.keys]
    for name in shown:
        values = _of_metric(phase, one, name)
        pair = (_mean(values), stdev(values) if len(values) > 1 else math.nan)
        cells.append(pair if several and name in names else pair[0])
    if WEIGHTED in phase.plan.choose:
        cells.append(one.score)
    if several:
        cells.append(f"{len(one.values)} of {len(one.result.trials)}")
    if phase.incumbent is not None and _compares(phase):
        cells += [one.scores["difference"], one.scores["percent"]]
        for name in names[1:2]:
            cells += _difference(phase, one, phase.incumbent, name)
        if one is phase.incumbent:
            cells[-2 * len(names[:2]) :] = [None] * (2 * len(names[:2]))
    return [
        *cells,
        *published_cells(phase, one),
        mean(lambda record: record.objective["epoch"]),
        mean(lambda record: record.cost.get("epochs")),
        mean(lambda record: record.last.get(phase.metric)),
        mean(lambda record: _drop(phase, record)),
        one.seconds,
    ]


def _difference(
    phase: PhaseView, one: CandidateView, incumbent: CandidateView, name: str
) -> tuple[float, float]:
    """Of the means of a metric, and in percent of the incumbent's."""
    before = _mean(_of_metric(phase, incumbent, name))
    found = _mean(_of_metric(phase, one, name)) - before
    return found, 100 * found / abs(before) if before else math.nan


def _drop(phase: PhaseView, record: RunRecord) -> float | None:
    best, last = record.objective["value"], record.last.get(phase.metric)
    return None if best is None or last is None else phase.sign * (best - last)


def _of_metric(phase: PhaseView, one: CandidateView, name: str) -> list[float]:
    """A metric at the best epoch; the objective's may lack in ``best``."""
    if name == phase.metric:
        return [*one.values.values()]
    return _numbers(one, lambda record: record.best.get(name))


def _has(phase: PhaseView, name: str) -> bool:
    return any(_of_metric(phase, one, name) for one in phase.candidates)


def _numbers(one: CandidateView, read: Read) -> list[float]:
    return [value for record in _scored(one) if is_number(value := read(record))]


def _scored(one: CandidateView) -> list[RunRecord]:
    trials = [trial for trial in one.result.trials if math.isfinite(trial.value)]
    return [trial.record for trial in trials if trial.record is not None]


def _mean(values: list[float]) -> float:
    return fmean(values) if values else math.nan


def _verdict(phase: PhaseView, one: CandidateView) -> str:
    said = []
    if len(phase.comparable) > 1:
        said += ["best"] if one is phase.comparable[0] else []
        said += ["worst"] if one is phase.comparable[-1] else []
    said += ["incumbent"] if one is phase.incumbent else []
    said += [f"best of {it.level}" for it in phase.plan.branches if it.winner == one.index]
    if one is phase.winner and phase.plan.verdict is not None:
        said.append(VERDICTS[phase.plan.verdict])
    said += ["on the Pareto front"] if one.index in phase.plan.front else []
    said += [f"infeasible: {each}" for each in one.result.plan.infeasible]
    said += [f"falls too far: {each}" for each in one.result.plan.fallen]
    return ", ".join(said)


def _mark(phase: PhaseView, one: CandidateView) -> Mark:
    if not one.values or one.result.plan.infeasible:
        return "bad"
    if len(phase.comparable) > 1:
        ends: dict[int, Mark] = {
            phase.comparable[-1].index: "worst",
            phase.comparable[0].index: "best",
        }
        return ends.get(one.index, "")
    return ""
