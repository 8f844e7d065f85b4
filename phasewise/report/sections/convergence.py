"""All phases in one table: how soon their runs were best, how long they went on, what that cost."""

from __future__ import annotations

import pandas as pd

from phasewise.report.content import Column, Table
from phasewise.report.view import StudyView

SPREADS = {
    "epochs_to_best": "best epoch",
    "epochs": "epochs",
    "drop_percent": "drop until the last epoch [%]",
}


def convergence_table(study: StudyView) -> Table | None:
    """A row per phase, over the completed runs with a score; ``None`` without any."""
    columns = [
        Column("phase"),
        Column("runs", "count"),
        *(Column(title, "spread") for title in SPREADS.values()),
        Column("stopped early [%]", "number"),
        Column("best in the last epoch [%]", "number"),
        Column("s per epoch", "number"),
        Column("time to best", "duration"),
    ]
    caption = (
        "How soon the completed runs of each phase were best: mean ± std of the best epoch, of all "
        "epochs, and of how much worse the objective was at the last one, in percent of the best; "
        "shares of the runs that early stopping ended, and that were best in their last epoch; "
        "mean seconds per epoch; mean time to the best epoch (its number times these seconds)."
    )
    table = Table("convergence", caption, columns)
    for phase in study.phases:
        scored = study.frame_of(phase).dropna(subset=["value", "epochs_to_best"])
        if scored.empty:
            continue
        stopped = scored["early_stopped"].dropna()
        table.add(
            phase.plan.name or "sweep",
            len(scored),
            *(_spread(scored[name]) for name in SPREADS),
            100 * float(stopped.mean()) if len(stopped) else None,
            100 * float((scored["epochs_to_best"] == scored["epochs"]).mean()),
            float(scored["seconds_per_epoch"].mean()),
            float(scored["seconds_to_best"].mean()),
        )
    return table if table.rows else None


def _spread(values: pd.Series) -> tuple[float | None, float | None]:
    known = values.dropna()
    if known.empty:
        return None, None
    return float(known.mean()), float(known.std()) if len(known) > 1 else None
