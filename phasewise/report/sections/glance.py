"""All phases in one table: how many trials, how they scored, what they cost."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from phasewise.report.content import Column, Section, Table
from phasewise.report.sections.convergence import convergence_table
from phasewise.report.sections.tree import tree_blocks
from phasewise.report.sections.trials import VERDICTS
from phasewise.report.view import StudyView

STATISTICS = {
    "best": Column("best", "number"),
    "spread": Column("mean", "spread"),
    "median": Column("median", "number"),
    "range": Column("range", "interval"),
    "epochs": Column("epochs", "count"),
    "early": Column("stopped early [%]", "number"),
}


def glance_section(study: StudyView) -> Section | None:
    """A row per phase; ``None`` without phases."""
    if not study.phases:
        return None
    columns = [
        Column("phase"),
        Column("keys"),
        Column("runs", "count"),
        Column("completed", "count"),
        *STATISTICS.values(),
        Column("time", "duration"),
        Column("winner"),
        Column("verdict"),
    ]
    caption = (
        "The objective over the completed runs of each phase (mean ± std, median, lowest and "
        "highest), mean epochs, and how many were stopped early."
    )
    table = Table("phases", caption, columns)
    for phase in study.phases:
        frame = study.frame_of(phase)
        numbers = statistics(frame, phase.mode)
        seconds = float(frame["seconds"].sum())
        verdict = VERDICTS[phase.plan.verdict] if phase.plan.verdict else "not decided"
        table.add(
            phase.plan.name or "sweep",
            ", ".join(phase.keys),
            len(frame),
            int((frame["status"] == "completed").sum()),
            *(numbers[name] for name in STATISTICS),
            seconds,
            phase.winner.label if phase.winner is not None else "",
            verdict,
        )
    if study.frame["trial"].duplicated().any():
        table.caption += " A run that several phases share counts in each of them."
    convergence = convergence_table(study)
    rest = [convergence] if convergence else []
    return Section("Phases at a glance", [*tree_blocks(study), table, *rest])


def statistics(frame: pd.DataFrame, mode: str) -> Mapping[str, object]:
    """What `STATISTICS` names, over the trials that have a score."""
    scores = frame["value"].dropna()
    if scores.empty:
        return dict.fromkeys(STATISTICS) | {"spread": (None, None)}
    known = frame["early_stopped"].dropna()
    low, high = float(scores.min()), float(scores.max())
    return {
        "best": high if mode == "max" else low,
        "spread": (float(scores.mean()), float(scores.std()) if len(scores) > 1 else None),
        "median": float(scores.median()),
        "range": (low, high),
        "epochs": float(frame.loc[scores.index, "epochs"].mean()),
        "early": 100 * float(known.mean()) if len(known) else None,
    }
