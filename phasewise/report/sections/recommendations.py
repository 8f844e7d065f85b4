"""What each phase recommends, in a row: which values, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean
from typing import Any

from phasewise.analysis.statistics.frame import is_number
from phasewise.analysis.statistics.intervals import compare_with
from phasewise.analysis.statistics.power import ALPHA
from phasewise.records.record import RunRecord
from phasewise.report.content import Column, Mark, Table
from phasewise.report.view import CandidateView, PhaseView, StudyView
from phasewise.study.objectives import PARETO


def recommendations(study: StudyView) -> Table | None:
    """A row for each decided phase; ``None`` without one."""
    decided = [phase for phase in study.phases if phase.winner is not None]
    columns = [
        Column("phase"),
        Column("recommended"),
        Column("instead of"),
        Column("gain", "signed"),
        Column("in %", "percent"),
        Column("evidence"),
        Column("best epoch", "count"),
        Column("of", "count"),
        Column("val - train loss", "number"),
    ]
    caption = (
        "What each phase recommends: its winner against what it started from. A gain is above 0 "
        "where the winner is better, whether more or less is."
    )
    if any(phase.plan.choose for phase in decided):
        caption += " Where several objectives choose, gains are of what ranks: the first of them, "
        caption += "or their weighted mean; a knee may cost some."
    table = Table("recommendations", caption, columns)
    for phase in decided:
        winner, before = phase.winner, phase.incumbent
        assert winner is not None
        changed = before is not None and before is not winner
        gain = phase.sign * (winner.score - before.score) if changed and before else math.nan
        percent = 100 * gain / abs(before.score) if before and before.score else math.nan
        mark: Mark = "best" if changed else ""
        table.add(
            phase.plan.name or "sweep",
            winner.label,
            before.label if changed and before else "",
            gain,
            percent,
            _evidence(phase, winner, before),
            _mean(winner, lambda record: record.objective.get("epoch")),
            _mean(winner, lambda record: record.cost.get("epochs")),
            _mean(winner, _gap),
            mark=mark,
        )
    table.drop_empty("best epoch", "of", "val - train loss")
    if any(column.title == "val - train loss" for column in table.columns):
        table.caption += " Losses are those of the best epoch: a large difference means that the "
        table.caption += "network fits the training data only."
    if any(str(row[5]).startswith("p =") for row in table.rows):
        table.caption += " p-values are those of paired tests over seeds, Holm-corrected."
    return table if table.rows else None


def _without_gain(phase: PhaseView, winner: CandidateView, before: CandidateView | None) -> str:
    """Where no gain in one number decided: what did; else empty."""
    if len(phase.candidates) == 1:
        return "nothing else was tried"
    if before is not None and before.result.plan.infeasible:
        return f"the start is infeasible: {', '.join(before.result.plan.infeasible)}"
    barred = before is winner and any(one.is_barred for one in phase.candidates)
    if barred or PARETO in phase.plan.choose:
        return phase.plan.reason
    return "nothing tried is better" if before is winner else ""


def _evidence(phase: PhaseView, winner: CandidateView, before: CandidateView | None) -> str:
    if reason := _without_gain(phase, winner, before):
        return reason
    if before is None:
        return "nothing to compare with"
    if min(len(winner.values), len(before.values)) < 2:
        return "one seed: it cannot be told from luck"
    found = compare_with(phase.result, winner.index).table
    rows = found[found["candidate"] == before.index] if found is not None else None
    if rows is None or rows.empty or not is_number(p := float(rows["p_holm"].iloc[0])):
        return "not tested"
    return f"p = {p:.2g}" + ("" if p <= ALPHA else ": within the noise of seeds")


def _gap(record: RunRecord) -> float | None:
    train, val = record.best.get("train/loss"), record.best.get("val/loss")
    if train is None or val is None or not is_number(train) or not is_number(val):
        return None
    return float(val) - float(train)


def _mean(one: CandidateView, read: Callable[[RunRecord], Any]) -> float:
    scored = [trial.record for trial in one.result.trials if math.isfinite(trial.value)]
    values = [float(value) for r in scored if r is not None and is_number(value := read(r))]
    return fmean(values) if values else math.nan
